//! Decision ids that nobody can make up: `<id>.<tag>`, the tag the first 10 bytes of HMAC-SHA256 of the id, in hex.
//!
//! Feedback on a decision that was never made is refused by the tag alone, on any replica and without looking anything up.
//! 80 bits are enough, because each guess costs a request (RFC 2104, section 5).

use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::AccessError;
use crate::unique;

const TAG: usize = 10;

/// An id that is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// The caller chose one.
    #[error("must be left out: ids are given by the service (`security.caller_ids`)")]
    Chosen,
    /// The tag is not ours.
    #[error("was not given by this service: `/recommend` answers with the id that feedback is about")]
    MadeUp,
}

/// Gives and checks decision ids.
#[derive(Clone)]
pub struct DecisionIds {
    secret: Option<Hmac<Sha256>>,
    caller_ids: bool,
}

impl DecisionIds {
    /// Ids signed by the secret in a file, or plain ones without.
    ///
    /// # Errors
    /// A file that cannot be read, or a secret that is too short.
    pub fn open(secret: Option<&Path>, caller_ids: bool) -> Result<Self, AccessError> {
        let secret = secret.map(|path| {
            let text =
                std::fs::read_to_string(path).map_err(|source| AccessError::File { path: path.to_owned(), source })?;
            let short = || AccessError::Short { path: path.to_owned(), bytes: text.trim().len() };
            let long = Some(text.trim()).filter(|text| text.len() >= 32).ok_or_else(short)?;
            Hmac::new_from_slice(long.as_bytes()).map_err(|_| short())
        });
        Ok(Self { secret: secret.transpose()?, caller_ids })
    }

    /// The caller's id, or a new one.
    ///
    /// # Errors
    /// A chosen id, where that is not allowed.
    pub fn choose(&self, chosen: Option<String>) -> Result<String, IdError> {
        match chosen {
            Some(_) if !self.caller_ids => Err(IdError::Chosen),
            Some(id) => Ok(id),
            None => Ok(unique::by_time().to_string()),
        }
    }

    /// The decision id of a chosen id.
    #[must_use]
    pub fn sign(&self, id: String) -> String {
        match &self.secret {
            Some(secret) => format!("{id}.{}", tag(secret, &id)),
            None => id,
        }
    }

    /// Checks that an id was given by a service with the same secret.
    ///
    /// # Errors
    /// One that was not.
    pub fn check(&self, id: &str) -> Result<(), IdError> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let (id, found) = id.rsplit_once('.').ok_or(IdError::MadeUp)?;
        let bytes = |index: usize| u8::from_str_radix(found.get(2 * index..2 * index + 2)?, 16).ok();
        let found_bytes: Option<Vec<u8>> = (0..TAG).map(bytes).collect();
        let mut mac = secret.clone();
        mac.update(id.as_bytes());
        // Compared in a time that says nothing of where they differ.
        match found_bytes.filter(|_| found.len() == 2 * TAG && !found.contains(char::is_uppercase)) {
            Some(found) if mac.verify_truncated_left(&found).is_ok() => Ok(()),
            _ => Err(IdError::MadeUp),
        }
    }
}

fn tag(secret: &Hmac<Sha256>, id: &str) -> String {
    let mut mac = secret.clone();
    mac.update(id.as_bytes());
    mac.finalize().into_bytes()[..TAG].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(secret: &str) -> DecisionIds {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), secret).unwrap();
        DecisionIds::open(Some(file.path()), true).unwrap()
    }

    #[test]
    fn only_ids_that_were_given_are_let_in() {
        let ours = ids(&"s".repeat(32));
        let id = ours.sign("mine/1.x".to_owned());
        assert_eq!(ours.check(&id), Ok(()));
        assert_eq!(ids(&format!("{}\n", "s".repeat(32))).check(&id), Ok(()), "a replica with the same secret");
        assert_eq!(ids(&"t".repeat(32)).check(&id), Err(IdError::MadeUp));
        let mut other = id.clone();
        other.replace_range(0..1, "n");
        for bad in [&other, "mine/1.x", "", ".", &id.to_uppercase(), &id[..id.len() - 2], &format!("{id}00"), "a.é"] {
            assert_eq!(ours.check(bad), Err(IdError::MadeUp), "{bad}");
        }
        assert!(ours.check(&ours.sign(ours.choose(None).unwrap())).is_ok());
    }

    #[test]
    fn the_tag_is_that_of_rfc_4231() {
        // Its first test case.
        let secret = Hmac::<Sha256>::new_from_slice(&[0x0b; 20]).unwrap();
        assert_eq!(tag(&secret, "Hi There"), "b0344c61d8db38535ca8");
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "short\n").unwrap();
        assert!(matches!(DecisionIds::open(Some(file.path()), true), Err(AccessError::Short { bytes: 5, .. })));
        assert_eq!(DecisionIds::open(None, false).unwrap().choose(Some("x".to_owned())), Err(IdError::Chosen));
    }
}
