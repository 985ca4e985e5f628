//! Sizes as people write them.

/// Bytes, or K, M, G, T with optional iB; all binary, so that one letter never means two things.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let invalid = || "a size is a number of bytes, or of K, M, G or T (16M and 16MiB are both 16,777,216)".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = match number.parse() {
        Ok(number) => number,
        Err(_) if digits > 0 => return Err("a size is at most 16,777,215T".to_owned()),
        Err(_) => return Err(invalid()),
    };
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(invalid()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "a size is at most 16,777,215T".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("1048577", 1_048_577),
            ("1k", 1024),
            ("1KiB", 1024),
            ("16M", 16 << 20),
            ("16MiB", 16 << 20),
            ("5G", 5 << 30),
            ("48T", 48 << 40),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "-1", "+1", "1.5G", "16MB", "16 M", "1Ki", "1P", "16777216T", "18446744073709551616"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
