//! A console device and a driver that sets it up.

use super::*;
use alloc::vec;
use proptest::prelude::*;

const SCREEN: ScreenSize = ScreenSize {
    columns: 80,
    rows: 25,
};

fn ports() -> Ports {
    let kinds = [PortKind::Console, PortKind::Named("a.b".into())];
    Ports::new(kinds, Some(SCREEN))
}

fn say(ports: &mut Ports, id: u8, event: u8, value: u8) {
    ports.receive(&[id, 0, 0, 0, event, 0, value, 0]);
}

fn heard(ports: &mut Ports) -> Vec<Vec<u8>> {
    core::iter::from_fn(|| ports.next_message()).collect()
}

#[test]
fn queues_are_numbered_as_specified() {
    for queue in 0..64 {
        assert_eq!(QueueRole::of(queue).queue(), queue);
    }
    assert_eq!(QueueRole::of(4), QueueRole::Receive(1));
    assert_eq!(QueueRole::of(7), QueueRole::Transmit(2));
    assert_eq!(Console::new(3, None).queue_sizes().len(), 8);
    assert_eq!(Console::new(0, None).queue_sizes().len(), 4);
}

#[test]
fn the_configuration_has_the_size_and_the_ports() {
    let mut console = Console::new(2, Some(SCREEN));
    let mut data = [0xff; 12];
    console.read_config(0, &mut data);
    assert_eq!(data, [80, 0, 25, 0, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(console.features(), 3);
    console.resize(ScreenSize {
        columns: 300,
        rows: 1,
    });
    console.read_config(1, &mut data[..2]);
    assert_eq!(data[..2], [1, 1]);
    let mut unsized_console = Console::new(2, None);
    unsized_console.resize(SCREEN);
    assert_eq!(unsized_console.features(), 2);
}

#[test]
fn a_driver_hears_of_ports_as_it_sets_them_up() {
    let mut ports = ports();
    assert!(!ports.has_message());
    say(&mut ports, 0, 0, 1);
    let added = [[0, 0, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0]];
    assert_eq!(heard(&mut ports), added);
    say(&mut ports, 0, 3, 1);
    assert_eq!(
        heard(&mut ports),
        [
            vec![0, 0, 0, 0, 4, 0, 1, 0],
            vec![0, 0, 0, 0, 5, 0, 1, 0, 80, 0, 25, 0],
            vec![0, 0, 0, 0, 6, 0, 1, 0],
        ]
    );
    say(&mut ports, 1, 3, 1);
    assert_eq!(
        heard(&mut ports),
        [
            vec![1, 0, 0, 0, 7, 0, 1, 0, b'a', b'.', b'b'],
            vec![1, 0, 0, 0, 6, 0, 1, 0],
        ]
    );
}

#[test]
fn a_port_is_open_while_the_driver_says_so() {
    let mut ports = ports();
    say(&mut ports, 1, 6, 1);
    assert!(!ports.is_open(1), "it has not been set up");
    say(&mut ports, 0, 0, 1);
    say(&mut ports, 1, 3, 1);
    say(&mut ports, 1, 6, 1);
    assert!(ports.is_open(1) && !ports.is_open(0) && !ports.is_open(2));
    say(&mut ports, 1, 6, 0);
    assert!(!ports.is_open(1));
}

#[test]
fn a_driver_that_repeats_itself_or_fails_hears_nothing_more() {
    let mut ports = ports();
    say(&mut ports, 0, 0, 0);
    assert_eq!(heard(&mut ports).len(), 0);
    say(&mut ports, 0, 0, 1);
    say(&mut ports, 0, 0, 1);
    assert_eq!(heard(&mut ports).len(), 2);
    say(&mut ports, 0, 3, 0);
    assert_eq!(heard(&mut ports).len(), 0);
    say(&mut ports, 0, 3, 1);
    say(&mut ports, 0, 3, 1);
    assert_eq!(heard(&mut ports).len(), 3);
    say(&mut ports, 0, 0, 1);
    assert_eq!(heard(&mut ports).len(), 0);
}

#[test]
fn a_driver_that_has_slept_goes_on_with_the_ports_it_knows() {
    let mut ports = ports();
    say(&mut ports, 0, 0, 1);
    say(&mut ports, 1, 3, 1);
    say(&mut ports, 1, 6, 1);
    heard(&mut ports);
    ports.reset();
    say(&mut ports, 1, 3, 1);
    let told_again = [
        vec![1, 0, 0, 0, 7, 0, 1, 0, b'a', b'.', b'b'],
        vec![1, 0, 0, 0, 6, 0, 1, 0],
    ];
    assert_eq!(heard(&mut ports), told_again);
    say(&mut ports, 1, 6, 1);
    assert!(ports.is_open(1));
}

#[test]
fn a_new_size_is_told_where_there_is_a_console() {
    let mut ports = ports();
    ports.resize(SCREEN);
    assert!(!ports.has_message());
    say(&mut ports, 0, 0, 1);
    say(&mut ports, 0, 3, 1);
    say(&mut ports, 1, 3, 1);
    heard(&mut ports);
    ports.resize(ScreenSize {
        columns: 132,
        rows: 50,
    });
    let resized = [[0, 0, 0, 0, 5, 0, 1, 0, 132, 0, 50, 0]];
    assert_eq!(heard(&mut ports), resized);
    ports.reset();
    assert!(!ports.has_message());
    say(&mut ports, 0, 0, 1);
    assert_eq!(heard(&mut ports).len(), 2);
}

proptest! {
    #[test]
    fn whatever_the_driver_says_few_messages_wait(
        said in prop::collection::vec((any::<[u8; 8]>(), any::<bool>()), 0..100),
    ) {
        let mut ports = ports();
        for (mut message, near) in said {
            if near {
                message = message.map(|byte| byte % 8);
                [message[1], message[2], message[3], message[5], message[7]] = [0; 5];
            }
            ports.receive(&message);
        }
        prop_assert!(heard(&mut ports).len() <= 10);
    }
}
