use super::*;
use proptest::prelude::*;
use std::time::SystemTime;

fn stamp() -> Stamp {
    let file = std::fs::metadata("/").unwrap();
    assert!(Stamp::of(&file).has_settled(SystemTime::now()));
    Stamp::of(&file)
}

fn header(layers: &[Layer], path: &Path) -> Vec<u8> {
    let layout = Layout::of(Kind::Image, &stamp(), path, layers).unwrap();
    let mut file = layout.header;
    file.resize(usize::try_from(PAGE).unwrap(), 0);
    file
}

#[test]
fn what_a_header_says_is_read_back() {
    let zeros = vec![0; 3 << 20];
    let filled = vec![7; 5000];
    let layers = [
        Layer::new(filled.clone()),
        Layer {
            bytes: [filled.clone(), zeros, filled].concat(),
            distance: 0x1234,
        },
    ];
    let path = Path::new("/boot/vmlinuz");
    let file = header(&layers, path);
    let header = Header::read(&file).unwrap().unwrap();
    assert_eq!(header.source, stamp());
    assert_eq!(header.path, path.as_os_str().as_bytes());
    assert_eq!(header.layers[0], 0x1000..0x1000 + 5000);
    assert_eq!(header.layers[1].start, 0x20_1234);
    let [hole] = header.holes.as_slice() else {
        panic!("one hole: {:?}", header.holes);
    };
    assert_eq!(*hole, 0x20_1234 + 5000..0x50_2000);
}

#[test]
fn a_single_layer_lies_as_the_guest_wants_it_and_a_packed_one_behind_the_header() {
    let layer = |distance| Layer {
        bytes: vec![1; 10],
        distance,
    };
    let offsets = |layers: &[Layer]| {
        let path = Path::new("k");
        Layout::of(Kind::Image, &stamp(), path, layers)
            .unwrap()
            .offsets
    };
    assert_eq!(offsets(&[layer(0x1f_b000)]), [0x3f_b000]);
    assert_eq!(
        offsets(&[layer(0x1f_b010), layer(0x3000)]),
        [0x1010, 0x20_3000]
    );
}

#[test]
fn a_header_of_another_version_or_one_that_lies_is_none() {
    let file = header(&[Layer::new(vec![1; 100])], Path::new("k"));
    assert!(Header::read(&file).unwrap().is_some());
    for (offset, value) in [
        (0, 0),
        (8, 1),
        (12, 9),
        (72, 99),
        (76, 99),
        (81, 99),
        (86, 0),
    ] {
        let mut broken = file.clone();
        broken[offset] = value;
        let read = Header::read(&broken);
        assert!(matches!(read, Ok(None)), "byte {offset}: {read:?}");
    }
    let mut beyond = file.clone();
    beyond[84 + 8..84 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(Header::read(&beyond), Ok(None)));
}

#[test]
fn a_header_that_is_cut_short_is_none() {
    let file = header(&[Layer::new(vec![1; 100])], Path::new("k"));
    for len in 0..100 {
        assert!(!matches!(Header::read(&file[..len]), Ok(Some(_))), "{len}");
    }
}

#[test]
fn a_long_path_is_cut_to_what_fits() {
    let path = "p".repeat(100_000);
    let holes: Vec<u8> = (0..80)
        .flat_map(|_| [vec![1; 4096], vec![0; 600 << 10]].concat())
        .collect();
    let file = header(&[Layer::new(holes)], Path::new(&path));
    let header = Header::read(&file).unwrap().unwrap();
    assert_eq!(header.path.len(), MOST_PATH);
    assert_eq!(header.holes.len(), MOST_HOLES);
}

#[test]
fn a_hole_goes_to_the_end_of_a_page_where_it_begins_and_not_where_it_ends() {
    let hole = 0x1200..0x9800;
    let holes = std::slice::from_ref(&hole);
    for (offset, wanted) in [
        (0x11ff, false),
        (0x1200, true),
        (0x1fff, true),
        (0x5001, true),
        (0x9000, true),
        (0x9001, false),
        (0xa001, false),
    ] {
        assert_eq!(is_hole_to_page_end(holes, offset), wanted, "{offset:#x}");
    }
}

proptest! {
    #[test]
    fn runs_and_holes_are_all_of_a_range(
        borders in proptest::collection::btree_set(0_u64..100, 0..10),
        start in 0_u64..100,
        len in 0_u64..50,
    ) {
        // In quarters of a page, of which those at the ends are not left out.
        const QUARTER: u64 = PAGE / 4;
        let borders: Vec<u64> = borders.into_iter().map(|border| border * QUARTER).collect();
        let holes: Vec<Range<u64>> = borders.chunks_exact(2).map(|hole| hole[0]..hole[1]).collect();
        let range = start * PAGE..(start + len) * PAGE;
        let runs: Vec<Range<u64>> = filled(&holes, range.clone()).collect();
        for page in 0..200 {
            let (at, end) = (page * PAGE, (page + 1) * PAGE);
            let hole = holes.iter().any(|hole| hole.start <= at && end <= hole.end);
            let wanted = range.contains(&at) && !hole;
            let found = runs.iter().filter(|run| run.start <= at && end <= run.end).count();
            prop_assert_eq!(found, usize::from(wanted), "page {} of {:?}", page, runs);
        }
    }
}
