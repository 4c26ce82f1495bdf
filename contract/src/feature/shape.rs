//! The names and kinds of features, held once for all that share them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use compact_str::CompactString;

/// Names, which are unique, and the kinds of their values, in order.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    columns: Box<[Column]>,
    /// Whether every feature is a number.
    is_numbers: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: CompactString,
    pub kind: Kind,
}

/// How a value lies in its features' words; the numbers are those of the journal's tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Number = 0,
    Text = 1,
    Vector = 2,
}

impl Kind {
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Number),
            1 => Some(Self::Text),
            2 => Some(Self::Vector),
            _ => None,
        }
    }
}

/// Shapes that a thread remembers.
const REMEMBERED: usize = 8;
/// Columns of a shape that is worth remembering, so that nobody fills the memory with them.
const WIDEST: usize = 1024;

thread_local! {
    /// The shapes that this thread met last, the latest first: the next features will have one of them.
    static RECENT: RefCell<VecDeque<Arc<Shape>>> = const { RefCell::new(VecDeque::new()) };
}

impl Shape {
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Whether every feature is a number.
    pub const fn is_numbers(&self) -> bool {
        self.is_numbers
    }

    /// A shape of these columns, which is one of the recent ones if any is the same.
    pub fn of(columns: &[Column]) -> Arc<Self> {
        RECENT.with_borrow_mut(|recent| {
            if let Some(at) = recent.iter().position(|shape| shape.columns() == columns) {
                let found = Arc::clone(&recent[at]);
                if at > 0 {
                    recent.remove(at);
                    recent.push_front(Arc::clone(&found));
                }
                return found;
            }
            let shape = Arc::new(Self {
                columns: columns.into(),
                is_numbers: columns.iter().all(|column| column.kind == Kind::Number),
            });
            if columns.len() <= WIDEST {
                recent.truncate(REMEMBERED - 1);
                recent.push_front(Arc::clone(&shape));
            }
            shape
        })
    }

    /// The latest shape that begins with `columns`, whose next column has this name and, where it is known, this kind.
    pub fn going_on(columns: &[Column], name: &str, kind: Option<Kind>) -> Option<Arc<Self>> {
        let goes_on = |shape: &&Arc<Self>| {
            let next = shape.columns().get(columns.len());
            next.is_some_and(|next| next.name == name && kind.is_none_or(|kind| kind == next.kind))
                && shape.columns().starts_with(columns)
        };
        RECENT.with_borrow(|recent| recent.iter().find(goes_on).cloned())
    }
}
