//! Pickled NumPy arrays, and lists and dictionaries of them, as JSON.
//!
//! A pickle is a program for a small stack machine that may call anything by name. Here it may call what makes arrays, and
//! everything else is refused: reading a log runs nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::numpy::array;

/// The value of a pickle.
///
/// # Errors
/// What is no pickle, and one that holds something other than arrays, numbers, texts, lists and dictionaries.
pub fn unpickle(bytes: &[u8]) -> Result<Value, String> {
    Machine { rest: bytes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }.run()?.json()
}

#[derive(Debug, Clone)]
enum Object {
    Json(Value),
    Bytes(Vec<u8>),
    Tuple(Vec<Self>),
    List(Rc<RefCell<Vec<Self>>>),
    Dict(Rc<RefCell<Vec<(Self, Self)>>>),
    /// Something by the name of its module and its own.
    Global(String),
    /// A type as NumPy writes it.
    Type(Rc<RefCell<String>>),
    Array(Rc<RefCell<Value>>),
}

impl Object {
    fn json(&self) -> Result<Value, String> {
        match self {
            Self::Json(value) => Ok(value.clone()),
            Self::Tuple(elements) => elements.iter().map(Self::json).collect(),
            Self::List(elements) => elements.borrow().iter().map(Self::json).collect(),
            Self::Dict(pairs) => {
                let pair = |(key, value): &(Self, Self)| {
                    let key = match key.json()? {
                        Value::String(key) => key,
                        other => other.to_string(),
                    };
                    Ok((key, value.json()?))
                };
                Ok(Value::Object(pairs.borrow().iter().map(pair).collect::<Result<Map<_, _>, String>>()?))
            }
            Self::Array(value) => Ok(value.borrow().clone()),
            Self::Bytes(_) => Err("it holds bytes that are no array".to_owned()),
            Self::Global(name) => Err(format!("it holds `{name}`, which is no array")),
            Self::Type(_) => Err("it holds a type where an array was expected".to_owned()),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Json(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    fn shape(&self) -> Option<Vec<usize>> {
        let Self::Tuple(axes) = self else { return None };
        let axis = |axis: &Self| match axis {
            Self::Json(value) => usize::try_from(value.as_u64()?).ok(),
            _ => None,
        };
        axes.iter().map(axis).collect()
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Object>,
    marks: Vec<usize>,
    memo: HashMap<usize, Object>,
}

impl Machine<'_> {
    fn run(mut self) -> Result<Object, String> {
        loop {
            let code = self.take(1)?[0];
            match code {
                // PROTO, FRAME.
                0x80 => {
                    self.take(1)?;
                }
                0x95 => {
                    self.take(8)?;
                }
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.since_mark()?),
                b'N' => self.push(Value::Null),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'K' => self.integer(1, false)?,
                b'M' => self.integer(2, false)?,
                b'J' => self.integer(4, true)?,
                0x8a => {
                    let length = self.length(1)?;
                    self.integer(length, true)?;
                }
                b'G' => {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(self.take(8)?);
                    self.push(Value::from(f64::from_be_bytes(bytes)));
                }
                0x8c => self.unicode(1)?,
                b'X' => self.unicode(4)?,
                0x8d => self.unicode(8)?,
                b'C' => self.bytes(1)?,
                b'B' => self.bytes(4)?,
                0x8e | 0x96 => self.bytes(8)?,
                0x94 => self.remember(self.memo.len())?,
                b'q' => {
                    let key = self.length(1)?;
                    self.remember(key)?;
                }
                b'r' => {
                    let key = self.length(4)?;
                    self.remember(key)?;
                }
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(Object::Global(format!("{module}.{name}")));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let name = module.text().zip(name.text()).map(|(module, name)| format!("{module}.{name}"));
                    self.stack.push(Object::Global(name.ok_or("it names something by what is no text")?));
                }
                b')' => self.stack.push(Object::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let length = usize::from(code - 0x84);
                    let from = self.stack.len().checked_sub(length).ok_or_else(cut)?;
                    let elements = self.stack.split_off(from);
                    self.stack.push(Object::Tuple(elements));
                }
                b't' => {
                    let elements = self.since_mark()?;
                    self.stack.push(Object::Tuple(elements));
                }
                b']' => self.stack.push(Object::List(Rc::default())),
                b'a' => {
                    let element = self.pop()?;
                    self.append(vec![element])?;
                }
                b'e' => {
                    let elements = self.since_mark()?;
                    self.append(elements)?;
                }
                b'}' => self.stack.push(Object::Dict(Rc::default())),
                b's' => {
                    let from = self.stack.len().checked_sub(2).ok_or_else(cut)?;
                    let pair = self.stack.split_off(from);
                    self.set(pair)?;
                }
                b'u' => {
                    let pairs = self.since_mark()?;
                    self.set(pairs)?;
                }
                // REDUCE and NEWOBJ: call the one below with the one on top.
                b'R' | 0x81 => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    self.stack.push(call(&function, &arguments)?);
                }
                b'b' => {
                    let state = self.pop()?;
                    build(self.stack.last().ok_or_else(cut)?, &state)?;
                }
                other => return Err(format!("it holds the pickle instruction {other:#04x}, which makes no array")),
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned little-endian number of so many bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        let mut little = [0; 8];
        little[..bytes].copy_from_slice(self.take(bytes)?);
        usize::try_from(u64::from_le_bytes(little)).map_err(|_| cut())
    }

    fn integer(&mut self, bytes: usize, signed: bool) -> Result<(), String> {
        if bytes > 8 {
            return Err("it holds an integer of more than 64 bits".to_owned());
        }
        let mut little = [0; 8];
        little[..bytes].copy_from_slice(self.take(bytes)?);
        let unused = 64 - 8 * bytes as u32;
        let number = i64::from_le_bytes(little);
        let number = if signed && (1..64).contains(&unused) { (number << unused) >> unused } else { number };
        self.push(Value::from(number));
        Ok(())
    }

    fn unicode(&mut self, bytes: usize) -> Result<(), String> {
        let length = self.length(bytes)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|error| error.to_string())?.to_owned();
        self.push(Value::String(text));
        Ok(())
    }

    fn bytes(&mut self, bytes: usize) -> Result<(), String> {
        let length = self.length(bytes)?;
        let bytes = self.take(length)?.to_vec();
        self.stack.push(Object::Bytes(bytes));
        Ok(())
    }

    fn line(&mut self) -> Result<String, String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or_else(cut)?;
        let line = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest = &self.rest[end + 1..];
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Object::Json(value));
    }

    fn pop(&mut self) -> Result<Object, String> {
        self.stack.pop().ok_or_else(cut)
    }

    fn since_mark(&mut self) -> Result<Vec<Object>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or_else(cut)?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, key: usize) -> Result<(), String> {
        self.memo.insert(key, self.stack.last().ok_or_else(cut)?.clone());
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.length(bytes)?;
        self.stack.push(self.memo.get(&key).ok_or_else(cut)?.clone());
        Ok(())
    }

    fn append(&mut self, elements: Vec<Object>) -> Result<(), String> {
        let Some(Object::List(list)) = self.stack.last() else { return Err(cut()) };
        list.borrow_mut().extend(elements);
        Ok(())
    }

    fn set(&mut self, pairs: Vec<Object>) -> Result<(), String> {
        let Some(Object::Dict(dict)) = self.stack.last() else { return Err(cut()) };
        let mut pairs = pairs.into_iter();
        while let (Some(key), Some(value)) = (pairs.next(), pairs.next()) {
            dict.borrow_mut().push((key, value));
        }
        Ok(())
    }
}

fn cut() -> String {
    "it is no whole pickle".to_owned()
}

/// The functions that make arrays, in NumPy 1 (`numpy.core`) and 2 (`numpy._core`).
fn call(function: &Object, arguments: &Object) -> Result<Object, String> {
    let (Object::Global(name), Object::Tuple(arguments)) = (function, arguments) else {
        return Err("it calls something that has no name".to_owned());
    };
    match (name.replace("numpy._core", "numpy.core").as_str(), arguments.as_slice()) {
        ("numpy.dtype", [name, ..]) => {
            let name = name.text().ok_or("it holds an array whose type is no number's")?;
            Ok(Object::Type(Rc::new(RefCell::new(name.to_owned()))))
        }
        ("numpy.core.numeric._frombuffer", [Object::Bytes(bytes), Object::Type(dtype), shape, order, ..]) => {
            let shape = shape.shape().ok_or_else(cut)?;
            let value = array(&dtype.borrow(), &shape, order.text() == Some("F"), bytes)?;
            Ok(Object::Array(Rc::new(RefCell::new(value))))
        }
        ("numpy.core.multiarray.scalar", [Object::Type(dtype), Object::Bytes(bytes)]) => {
            Ok(Object::Json(array(&dtype.borrow(), &[], false, bytes)?))
        }
        // Its state comes after it.
        ("numpy.core.multiarray._reconstruct", _) => Ok(Object::Array(Rc::default())),
        ("collections.OrderedDict", []) => Ok(Object::Dict(Rc::default())),
        (_, _) => Err(format!("it calls `{name}`, which makes no array")),
    }
}

/// Gives a type its byte order, or an array what it holds.
fn build(object: &Object, state: &Object) -> Result<(), String> {
    let Object::Tuple(state) = state else { return Err(cut()) };
    match (object, state.as_slice()) {
        (Object::Type(dtype), [_, order, ..]) => {
            let ordered = format!("{}{}", order.text().unwrap_or("|"), dtype.borrow());
            *dtype.borrow_mut() = ordered;
            Ok(())
        }
        (Object::Array(value), [_, shape, Object::Type(dtype), fortran, Object::Bytes(bytes)]) => {
            let shape = shape.shape().ok_or_else(cut)?;
            let fortran = matches!(fortran, Object::Json(Value::Bool(true)));
            *value.borrow_mut() = array(&dtype.borrow(), &shape, fortran, bytes)?;
            Ok(())
        }
        _ => Err("it holds an array of objects".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_what_makes_arrays_is_called() {
        // pickle.dumps of an object whose __reduce__ is (os.system, ("true",)), protocol 0 and 2.
        for harmful in [&b"cos\nsystem\n(S'true'\ntR."[..], &b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."[..]]
        {
            let error = unpickle(harmful).unwrap_err();
            assert!(error.contains("makes no array"), "{error}");
        }
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let whole = b"\x80\x04]\x94(K\x01K\x02e.";
        assert_eq!(unpickle(whole).unwrap(), serde_json::json!([1, 2]));
        for length in 0..whole.len() {
            assert!(unpickle(&whole[..length]).is_err(), "{length} bytes");
        }
    }
}
