//! What a foreign model's input is fed with.

use std::fmt;

use slated_contract::feature::{Feature, FeatureSchema, Group};
use slated_contract::tensor::{HISTORY, HISTORY_LENGTH, ITEMS, MASK, NOISE, STATE};

/// What an input is fed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Numbers of `state` and `items`, side by side in this order.
    Columns(Vec<Columns>),
    /// The tensor `mask`.
    Mask,
    /// The tensor `history`.
    History,
    /// The tensor `history_length`.
    HistoryLength,
    /// The tensor `noise`.
    Noise,
}

/// Neighbouring numbers of each row of `state` or `items`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Whether they are an item's.
    pub of_item: bool,
    /// The first of them.
    pub first: usize,
    /// How many.
    pub width: usize,
}

/// What `--help` and errors say of sources.
pub const KNOWN: &str = "state, items, a group (user, context, session, item), a feature such as user.age, item_id, \
     several of these joined by +, or mask, history, history_length, noise";

impl Source {
    /// Reads a source: parts by name, side by side.
    ///
    /// # Errors
    /// A part that the schema does not have, or that stands alone.
    pub fn read(parts: &[String], schema: &FeatureSchema) -> Result<Self, String> {
        let alone = |name: &str| match name {
            MASK => Some(Self::Mask),
            HISTORY => Some(Self::History),
            HISTORY_LENGTH => Some(Self::HistoryLength),
            NOISE => Some(Self::Noise),
            _ => None,
        };
        if let [part] = parts
            && let Some(source) = alone(part)
        {
            return Ok(source);
        }
        let mut columns = Vec::new();
        for part in parts {
            if alone(part).is_some() {
                return Err(format!("`{part}` cannot be joined with others"));
            }
            let found = columns_of(part, schema);
            columns.push(found.ok_or_else(|| format!("`{part}` is not known; known are {KNOWN}"))?);
        }
        if columns.iter().all(|columns| columns.width == 0) {
            return Err(format!("`{}` is empty in this feature schema", parts.join("+")));
        }
        columns.retain(|columns| columns.width > 0);
        Ok(Self::Columns(columns))
    }

    /// The whole of `state`, and of `items`.
    #[must_use]
    pub fn whole(state: Option<usize>, items: Option<usize>) -> Self {
        let columns = |of_item, width: Option<usize>| {
            width.filter(|width| *width > 0).map(|width| Columns { of_item, first: 0, width })
        };
        Self::Columns([columns(false, state), columns(true, items)].into_iter().flatten().collect())
    }

    /// How many numbers a row has; `None` for whole tensors.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::Columns(columns) => Some(columns.iter().map(|columns| columns.width).sum()),
            _ => None,
        }
    }

    /// Whether it says something of each candidate.
    #[must_use]
    pub fn of_items(&self) -> bool {
        match self {
            Self::Columns(columns) => columns.iter().any(|columns| columns.of_item),
            other => *other == Self::Mask,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Mask => formatter.write_str(MASK),
            Self::History => formatter.write_str(HISTORY),
            Self::HistoryLength => formatter.write_str(HISTORY_LENGTH),
            Self::Noise => formatter.write_str(NOISE),
            Self::Columns(columns) => {
                let part = |columns: &Columns| {
                    let tensor = if columns.of_item { ITEMS } else { STATE };
                    format!("{tensor}[{}..{}]", columns.first, columns.first + columns.width)
                };
                formatter.write_str(&columns.iter().map(part).collect::<Vec<_>>().join("+"))
            }
        }
    }
}

/// Widths of `state` and `items` by a schema.
pub fn widths(schema: &FeatureSchema) -> (usize, usize) {
    let state = [Group::User, Group::Context, Group::Session].map(|group| width(schema.group(group)));
    (state.iter().sum(), width(&schema.item) + schema.item_id.as_ref().map_or(0, |kind| kind.width()))
}

fn width(features: &[Feature]) -> usize {
    features.iter().map(|feature| feature.kind.width()).sum()
}

fn columns_of(part: &str, schema: &FeatureSchema) -> Option<Columns> {
    let (state, items) = widths(schema);
    let item = width(&schema.item);
    match part {
        STATE => return Some(Columns { of_item: false, first: 0, width: state }),
        ITEMS => return Some(Columns { of_item: true, first: 0, width: items }),
        FeatureSchema::ITEM_ID if schema.item_id.is_some() => {
            return Some(Columns { of_item: true, first: item, width: items - item });
        }
        _ => {}
    }
    let (group, feature) = part.split_once('.').map_or((part, None), |(group, feature)| (group, Some(feature)));
    let groups =
        [("user", Group::User), ("context", Group::Context), ("session", Group::Session), ("item", Group::Item)];
    let mut first = 0;
    for (name, declared) in groups {
        let features = schema.group(declared);
        let of_item = declared == Group::Item;
        if of_item {
            first = 0;
        }
        if name == group {
            let Some(feature) = feature else { return Some(Columns { of_item, first, width: width(features) }) };
            let place = features.iter().position(|declared| declared.name == feature)?;
            let first = first + width(&features[..place]);
            return Some(Columns { of_item, first, width: features[place].kind.width() });
        }
        first += width(features);
    }
    None
}
