//! NumPy's arrays as JSON.

use serde_json::Value;

/// An array: its type as NumPy writes it (`<f4`, `|b1`), its shape and its bytes, the last axis (of a Fortran array, the
/// first) running fastest.
///
/// # Errors
/// A type that holds no numbers, or bytes that are not as many as the shape says.
pub fn array(dtype: &str, shape: &[usize], fortran: bool, data: &[u8]) -> Result<Value, String> {
    let element = Element::of(dtype)?;
    let count = shape.iter().try_fold(1_usize, |count, axis| count.checked_mul(*axis));
    if count.and_then(|count| count.checked_mul(element.bytes)) != Some(data.len()) {
        return Err(format!("an array of the shape {shape:?} and the type `{dtype}` has {} bytes", data.len()));
    }
    let mut strides = vec![element.bytes; shape.len()];
    let axes: Vec<usize> = if fortran { (0..shape.len()).collect() } else { (0..shape.len()).rev().collect() };
    for pair in axes.windows(2) {
        strides[pair[1]] = strides[pair[0]] * shape[pair[0]];
    }
    Ok(nested(&element, shape, &strides, data, 0))
}

fn nested(element: &Element, shape: &[usize], strides: &[usize], data: &[u8], at: usize) -> Value {
    match (shape, strides) {
        ([axis, shape @ ..], [stride, strides @ ..]) => {
            (0..*axis).map(|index| nested(element, shape, strides, data, at + index * stride)).collect()
        }
        _ => data.get(at..at + element.bytes).map_or(Value::Null, |bytes| element.value(bytes)),
    }
}

struct Element {
    kind: u8,
    bytes: usize,
    big_endian: bool,
}

impl Element {
    fn of(dtype: &str) -> Result<Self, String> {
        let unknown = || format!("arrays of the type `{dtype}` are not read, only those of numbers and booleans");
        let name = dtype.trim_start_matches(['<', '>', '|', '=']);
        let (kind, bytes) = (name.bytes().next().ok_or_else(unknown)?, name.get(1..).ok_or_else(unknown)?);
        let bytes = bytes.parse().map_err(|_| unknown())?;
        match (kind, bytes) {
            (b'f', 4 | 8) | (b'i' | b'u', 1 | 2 | 4 | 8) | (b'b', 1) => {
                Ok(Self { kind, bytes, big_endian: dtype.starts_with('>') })
            }
            _ => Err(unknown()),
        }
    }

    /// Not finite numbers are `null`, as in any JSON.
    fn value(&self, bytes: &[u8]) -> Value {
        let mut little = [0; 8];
        little[..self.bytes].copy_from_slice(bytes);
        if self.big_endian {
            little[..self.bytes].reverse();
        }
        let unsigned = u64::from_le_bytes(little);
        match (self.kind, self.bytes) {
            (b'f', 4) => Value::from(f32::from_bits(unsigned as u32)),
            (b'f', _) => Value::from(f64::from_bits(unsigned)),
            (b'i', bytes) => {
                let unused = 64 - 8 * bytes as u32;
                Value::from(((unsigned << unused) as i64) >> unused)
            }
            (b'b', _) => Value::from(unsigned != 0),
            _ => Value::from(unsigned),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_shapes_and_orders() {
        let floats: Vec<u8> =
            [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(array("<f4", &[2, 3], false, &floats).unwrap(), json!([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]));
        assert_eq!(array("f4", &[2, 3], true, &floats).unwrap(), json!([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]));
        assert_eq!(array(">i2", &[2], false, &[0, 1, 255, 254]).unwrap(), json!([1, -2]));
        assert_eq!(array("|b1", &[], false, &[1]).unwrap(), json!(true));
        assert_eq!(array("<f8", &[1], false, &f64::NAN.to_le_bytes()).unwrap(), json!([null]));
        assert!(array("<f4", &[2], false, &[0; 7]).unwrap_err().contains("7 bytes"));
        assert!(array("|O8", &[1], false, &[0; 8]).unwrap_err().contains("`|O8`"));
    }
}
