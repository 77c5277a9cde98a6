//! Files and arrays that become RGB images.

use std::io::Cursor;

use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat};
use w4ax_vla::VlaError;
use w4ax_vla::image::RgbImage;

use crate::{data, noise, open};

fn png(width: u32, height: u32, color: ExtendedColorType, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    image::codecs::png::PngEncoder::new(&mut out)
        .write_image(data, width, height, color)
        .expect("a valid image");
    out
}

fn decode(bytes: &[u8]) -> RgbImage {
    RgbImage::decode(bytes, "test.png").expect("a valid file")
}

#[test]
fn gray_is_replicated_and_alpha_is_dropped() {
    let cases: [(ExtendedColorType, &[u8], [u8; 6]); 4] = [
        (ExtendedColorType::L8, &[7, 250], [7, 7, 7, 250, 250, 250]),
        (
            ExtendedColorType::La8,
            &[7, 0, 250, 9],
            [7, 7, 7, 250, 250, 250],
        ),
        (
            ExtendedColorType::Rgb8,
            &[1, 2, 3, 4, 5, 6],
            [1, 2, 3, 4, 5, 6],
        ),
        (
            ExtendedColorType::Rgba8,
            &[1, 2, 3, 0, 4, 5, 6, 9],
            [1, 2, 3, 4, 5, 6],
        ),
    ];
    for (color, bytes, expected) in cases {
        assert_eq!(
            decode(&png(2, 1, color, bytes)).data(),
            expected,
            "{color:?}"
        );
    }
}

#[test]
fn array_of_one_three_or_four_channels_becomes_rgb() {
    for (channels, bytes) in [
        (1, &[7, 250][..]),
        (3, &[7, 7, 7, 250, 250, 250]),
        (4, &[7, 7, 7, 0, 250, 250, 250, 255]),
    ] {
        let image = RgbImage::from_channels(2, 1, channels, bytes).expect("a valid array");
        assert_eq!(image.data(), [7, 7, 7, 250, 250, 250]);
    }
}

/// Bytes of a PNG chunk with its checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for &byte in kind.iter().chain(data) {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
        }
    }
    let len = u32::try_from(data.len()).expect("a short chunk");
    [&len.to_be_bytes()[..], kind, data, &(!crc).to_be_bytes()].concat()
}

/// A PNG file with a palette of 4 colors, the last of them transparent: a row of colors 3, 0, 1, 2.
fn palette_png() -> Vec<u8> {
    let header = [0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 0, 0, 0]; // 4x1, 2 bits, palette
    let palette = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120];
    // One stored block of zlib: a filter byte and 4 indices of 2 bits.
    let row = [0, 0b1100_0110];
    let (a, b) = row.iter().fold((1u32, 0u32), |(a, b), &x| {
        (a + u32::from(x), b + a + u32::from(x))
    });
    let mut stream = vec![0x78, 0x01, 0x01, 2, 0, 0xFD, 0xFF];
    stream.extend(row);
    stream.extend(((b << 16) | a).to_be_bytes());
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"PLTE", &palette),
        chunk(b"tRNS", &[255, 255, 255, 0]),
        chunk(b"IDAT", &stream),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

#[test]
fn palette_is_expanded_and_its_transparency_dropped() {
    let expected = [100, 110, 120, 10, 20, 30, 40, 50, 60, 70, 80, 90];
    assert_eq!(decode(&palette_png()).data(), expected);
}

#[test]
fn upper_byte_of_sixteen_bits_is_taken() {
    let samples = [0x12FFu16, 0x8000, 0xFF80].map(u16::to_ne_bytes).concat();
    let image = decode(&png(1, 1, ExtendedColorType::Rgb16, &samples));
    assert_eq!(image.data(), [0x12, 0x80, 0xFF]);
}

#[test]
fn rejects_gray_of_sixteen_bits() {
    let bytes = png(1, 1, ExtendedColorType::L16, &[1, 2]);
    let error = RgbImage::decode(&bytes, "depth.png").expect_err("unsupported");
    assert!(matches!(error, VlaError::Image { .. }));
    let message = error.to_string();
    assert!(
        message.starts_with("depth.png: ") && message.contains("L16"),
        "{message}"
    );
}

#[test]
fn decodes_jpeg_within_a_few_counts_of_another_decoder() {
    let image = RgbImage::open(data("oft-tiny/images/oft0_agentview_1tf.jpg")).expect("a fixture");
    let (_, max) = crate::difference(
        &image,
        &open("oft-tiny/images/oft0_agentview_2jpegdecoded.png"),
    );
    // The reference has the fast DCT, the decoder an accurate one.
    assert!(max <= 16, "{max}");
}

#[test]
fn format_is_found_by_content() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("picture.jpg");
    let image = noise(5, 4, 7);
    std::fs::write(&path, png(5, 4, ExtendedColorType::Rgb8, image.data())).expect("a file");
    assert_eq!(RgbImage::open(&path).expect("a valid file"), image);
}

#[test]
fn rejects_bytes_that_are_no_image() {
    for bytes in [
        &b""[..],
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        &[0xFF, 0xD8, 0xFF, 0xE0],
    ] {
        let error = RgbImage::decode(bytes, "broken.png").expect_err("no image");
        assert!(matches!(error, VlaError::Image { .. }), "{error:?}");
        assert!(error.to_string().starts_with("broken.png: "), "{error}");
    }
}

#[test]
fn rejects_truncated_file() {
    let whole = std::fs::read(data("openvla-tiny/images/img2_224x224.png")).expect("a fixture");
    for len in [20, 100, whole.len() / 2, whole.len() - 60] {
        let error = RgbImage::decode(&whole[..len], "cut.png").expect_err("a truncated file");
        assert!(matches!(error, VlaError::Image { .. }), "{len}: {error:?}");
    }
}

#[test]
fn rejects_missing_file_by_its_name() {
    let error = RgbImage::open("no/such/file.png").expect_err("no file");
    assert!(matches!(error, VlaError::Io { .. }));
    assert!(
        error.to_string().starts_with("no/such/file.png: "),
        "{error}"
    );
}

#[test]
fn rejects_arrays_of_another_length_empty_ones_and_other_channels() {
    for (result, message) in [
        (
            RgbImage::new(2, 2, vec![0; 11]),
            "is 11 bytes: expected 12 bytes, 2x2x3",
        ),
        (
            RgbImage::new(0, 2, vec![]),
            "size of an image is 0x2: expected at least 1x1",
        ),
        (RgbImage::new(2, 0, vec![]), "size of an image is 2x0"),
        (
            RgbImage::from_channels(2, 1, 4, &[0; 6]),
            "expected 8 bytes, 1x2x4",
        ),
        (
            RgbImage::from_channels(1, 1, 2, &[0; 2]),
            "number of channels of an image is 2",
        ),
        (
            RgbImage::from_channels(0, 1, 1, &[]),
            "size of an image is 0x1",
        ),
        (RgbImage::new(usize::MAX, 2, vec![0; 3]), "no memory holds"),
    ] {
        let error = result.expect_err("an invalid array");
        assert!(matches!(error, VlaError::Input { .. }));
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn decoding_is_lossless_for_png() {
    let image = noise(33, 17, 8);
    let mut bytes = Cursor::new(Vec::new());
    let buffer = image::RgbImage::from_raw(33, 17, image.data().to_vec()).expect("a buffer");
    DynamicImage::ImageRgb8(buffer)
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("a file");
    assert_eq!(decode(bytes.get_ref()), image);
}
