//! The log alone: what is left of it by closing, by opening it again, and by what was refused.

use std::path::Path;

use serde::Serialize;

use super::*;

const NONE: Numbers = [0; KINDS.len()];
const ALL: Numbers = [u64::MAX; KINDS.len()];

/// The beginning of an event.
fn event(id: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Begins<'a> {
        id: &'a str,
        time: i64,
    }
    rmp_serde::to_vec_named(&Begins { id, time: 7 }).unwrap()
}

fn open(folder: &Path, closed: &Numbers, refused: &Numbers) -> Log {
    let (log, cuts) = Log::open(folder.join("log"), &folder.join("aside"), false, closed, refused).unwrap();
    assert_eq!(cuts, []);
    log
}

/// Writes one commit with an event of each of these kinds and numbers.
fn append(log: &Log, events: &[(usize, u64)]) {
    let bytes: Vec<Vec<u8>> = events.iter().map(|(kind, sequence)| event(&format!("{kind}-{sequence}"))).collect();
    let orders: Vec<Order> = bytes.iter().map(|bytes| Order::read(bytes).unwrap()).collect();
    let events: Vec<NewEvent<'_>> = events
        .iter()
        .zip(orders.iter().zip(&bytes))
        .map(|(&(kind, sequence), (order, bytes))| NewEvent { kind, sequence, order, bytes })
        .collect();
    log.append(&events).unwrap();
}

fn numbers(log: &Log, kind: usize) -> Vec<u64> {
    log.within(kind, 0..=u64::MAX).into_iter().map(|waiting| waiting.sequence).collect()
}

fn names(folder: &Path) -> usize {
    folder.join("log").read_dir().unwrap().count()
}

#[test]
fn events_are_there_until_they_are_closed_and_their_files_go_with_the_last_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &NONE, &ALL);
    append(&log, &[(0, 1), (1, 1)]);
    append(&log, &[(0, 2)]);
    log.leave();
    append(&log, &[(0, 3), (1, 2)]);
    assert_eq!((numbers(&log, 0), numbers(&log, 1), names(folder.path())), (vec![1, 2, 3], vec![1, 2], 2));
    assert_eq!(log.event(0, 2).unwrap(), Some(event("0-2")));
    assert_eq!((log.sequence_of(0, "0-3"), log.sequence_of(1, "0-3")), (Some(3), None));
    assert_eq!(log.ids_with(0, "0-"), ["0-1", "0-2", "0-3"]);

    log.forget(0, 2);
    log.remove_closed(&[2, 0, 0], &|| ()).unwrap();
    assert_eq!((log.event(0, 2).unwrap(), log.sequence_of(0, "0-2"), names(folder.path())), (None, None, 2));
    log.forget(1, 1);
    log.remove_closed(&[2, 1, 0], &|| ()).unwrap();
    assert_eq!((numbers(&log, 0), numbers(&log, 1), names(folder.path())), (vec![3], vec![2], 1));
    // The file that is written to stays, though all in it is closed, until it is left.
    log.remove_closed(&[3, 2, 0], &|| ()).unwrap();
    assert_eq!(names(folder.path()), 1);
    log.leave();
    log.remove_closed(&[3, 2, 0], &|| ()).unwrap();
    assert_eq!(names(folder.path()), 0);
    append(&log, &[(0, 4)]);
    assert_eq!(log.event(0, 4).unwrap(), Some(event("0-4")));
}

#[test]
fn what_is_opened_again_holds_neither_what_is_closed_nor_what_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &NONE, &ALL);
    (1..=6).for_each(|sequence| append(&log, &[(0, sequence), (2, sequence)]));
    log.sync().unwrap();
    drop(log);
    let log = open(folder.path(), &[2, 4, 1], &ALL);
    assert_eq!((numbers(&log, 0), numbers(&log, 2), log.last(0)), (vec![3, 4, 5, 6], vec![2, 3, 4, 5, 6], 6));
    drop(log);
    let log = open(folder.path(), &[2, 0, 2], &[5, 1, 5]);
    assert_eq!((numbers(&log, 0), numbers(&log, 2)), (vec![3, 4], vec![3, 4]));
    assert_eq!(log.event(2, 4).unwrap(), Some(event("2-4")));
    append(&log, &[(0, 5)]);
    drop(log);
    let log = open(folder.path(), &[4, 0, 4], &ALL);
    assert_eq!(
        (numbers(&log, 0), log.first_from(0, 0).map(|waiting| waiting.sequence), names(folder.path())),
        (vec![5], Some(5), 1)
    );
    drop(log);
    open(folder.path(), &[5, 0, 4], &ALL);
    assert_eq!(names(folder.path()), 0);
}
