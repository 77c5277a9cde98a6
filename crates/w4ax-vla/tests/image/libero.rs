//! The stages of the LIBERO clients, each alone and all together.

use w4ax_vla::image::libero::{
    LiberoClient, center_crop, jpeg_round_trip, resize_lanczos3, rotate_180,
};

use crate::{difference, noise, open};

const PICTURES: [&str; 4] = [
    "oft0_agentview",
    "oft0_wrist",
    "oft1_agentview",
    "oft1_wrist",
];

fn stage(picture: &str, stage: &str) -> w4ax_vla::image::RgbImage {
    open(&format!("oft-tiny/images/{picture}_{stage}.png"))
}

#[test]
fn jpeg_round_trip_gives_the_bytes_of_tensorflow() {
    for picture in PICTURES {
        let got = jpeg_round_trip(&stage(picture, "0raw"));
        let difference = difference(&got, &stage(picture, "2jpegdecoded"));
        assert_eq!(
            difference,
            (0, 0),
            "{picture}: (bytes that differ, maximum)"
        );
    }
}

#[test]
fn lanczos_differs_by_one_count_in_few_bytes() {
    for picture in PICTURES {
        let input = stage(picture, "2jpegdecoded");
        let got = resize_lanczos3(&input, 224, 224).expect("a valid size");
        let (count, max) = difference(&got, &stage(picture, "3lanczos224"));
        eprintln!("{picture} {count} {max}");
        let bytes = got.data().len();
        assert!(
            max <= 1 && count * 10_000 < bytes,
            "{picture}: {count} of {bytes}, by {max}"
        );
    }
}

#[test]
fn center_crop_gives_the_bytes_of_tensorflow() {
    for picture in PICTURES {
        let got = center_crop(&stage(picture, "3lanczos224"));
        let difference = difference(&got, &stage(picture, "4crop224"));
        assert_eq!(
            difference,
            (0, 0),
            "{picture}: (bytes that differ, maximum)"
        );
    }
}

#[test]
fn client_does_all_stages() {
    for picture in PICTURES {
        // The pictures of the fixture are rotated already.
        let camera = rotate_180(&stage(picture, "0raw"));
        for client in [LiberoClient::openvla(), LiberoClient::oft()] {
            let (count, max) = difference(&client.prepare(&camera), &stage(picture, "4crop224"));
            eprintln!("{picture} {count} {max}");
            assert!(max <= 1 && count < 40, "{picture}: {count} bytes, by {max}");
            let whole = client.with_center_crop(false).with_rotation(false);
            let (count, max) = difference(
                &whole.prepare(&rotate_180(&camera)),
                &stage(picture, "3lanczos224"),
            );
            assert!(max <= 1 && count < 15, "{picture}: {count} bytes, by {max}");
        }
    }
}

#[test]
fn rotation_reverses_both_axes() {
    let image = noise(3, 2, 1);
    let rotated = rotate_180(&image);
    for (x, y) in [(0, 0), (2, 1), (1, 0)] {
        let (from, to) = ((y * 3 + x) * 3, ((1 - y) * 3 + 2 - x) * 3);
        assert_eq!(image.data()[from..from + 3], rotated.data()[to..to + 3]);
    }
    assert_eq!(rotate_180(&rotated), image);
}

#[test]
fn only_the_oft_client_keeps_an_image_of_the_right_size() {
    let image = noise(224, 224, 2);
    let keep = |client: LiberoClient| {
        let client = client.with_rotation(false).with_center_crop(false);
        client.prepare(&image) == image
    };
    assert!(keep(LiberoClient::oft()));
    assert!(!keep(LiberoClient::openvla()));
    assert!(keep(LiberoClient::openvla().with_keep_size(true)));
    assert!(!keep(LiberoClient::oft().with_keep_size(false)));
}
