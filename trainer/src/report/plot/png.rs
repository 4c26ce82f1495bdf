//! PNG files of the one kind that plots are: eight bits each of red, green and blue (ISO/IEC 15948).

/// Speed and size of the compression, from 0 to 10.
const LEVEL: u8 = 6;

/// Encodes pixels, row by row from above.
pub fn encode(pixels: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let row = 3 * width as usize;
    let mut filtered = Vec::with_capacity(pixels.len() + height as usize);
    for row in pixels.chunks_exact(row) {
        // No filter: a plot's long runs of one colour compress well as they are.
        filtered.push(0);
        filtered.extend_from_slice(row);
    }
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // Bit depth 8, colour type RGB, and the only compression, filter and interlacing there is or is used.
    header.extend([8, 2, 0, 0, 0]);

    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &miniz_oxide::deflate::compress_to_vec_zlib(&filtered, LEVEL));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let checked = file.len();
    file.extend(kind);
    file.extend(data);
    let checksum = crc32fast::hash(&file[checked..]);
    file.extend(checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chunks of a file, each with its checksum compared.
    fn chunks(mut file: &[u8]) -> Vec<(&[u8], &[u8])> {
        let mut chunks = Vec::new();
        file = file.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap();
        while let Some((length, rest)) = file.split_first_chunk() {
            let (checked, rest) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
            let (checksum, rest) = rest.split_first_chunk().unwrap();
            assert_eq!(u32::from_be_bytes(*checksum), crc32fast::hash(checked));
            chunks.push(checked.split_at(4));
            file = rest;
        }
        chunks
    }

    #[test]
    fn the_pixels_come_back() {
        let pixels: Vec<u8> = (0..3 * 5 * 2).collect();
        let file = encode(&pixels, (5, 2));
        let [(b"IHDR", header), (b"IDAT", data), (b"IEND", [])] = chunks(&file)[..] else { panic!("other chunks") };
        assert_eq!(header, [0, 0, 0, 5, 0, 0, 0, 2, 8, 2, 0, 0, 0]);
        let rows = miniz_oxide::inflate::decompress_to_vec_zlib(data).unwrap();
        let rows: Vec<_> = rows.chunks(16).map(|row| row.split_first().unwrap()).collect();
        assert_eq!(rows, [(&0, &pixels[..15]), (&0, &pixels[15..])]);
    }
}
