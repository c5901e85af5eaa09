mod model;

use super::*;

/// What `virt` has: two contexts for each hart.
const SOURCES: u32 = 96;
const HART_0: PlicContext = PlicContext(1);
const HART_1: PlicContext = PlicContext(3);

const UART: Irq = Irq(10);
const DISK: Irq = Irq(1);

impl Plic {
    fn of_virt() -> Self {
        Self::new(SOURCES, 4).unwrap()
    }

    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put(&mut self, offset: u64, value: u32) {
        assert_eq!(self.write(offset, &value.to_le_bytes()), None);
    }

    /// With the sources at priority 1 and enabled for hart 0.
    fn listening(sources: &[Irq]) -> Self {
        let mut plic = Self::of_virt();
        for &source in sources {
            plic.put(priority(source), 1);
            plic.enable(HART_0, source, true);
        }
        plic
    }

    fn enable(&mut self, context: PlicContext, source: Irq, enabled: bool) {
        let at = enable(context, source);
        let (word, bit) = (self.get(at), 1 << (source.0 % 32));
        self.put(at, if enabled { word | bit } else { word & !bit });
    }

    fn claimed(&mut self, context: PlicContext) -> u32 {
        self.get(claim(context))
    }

    fn completed(&mut self, context: PlicContext, source: Irq) {
        self.put(claim(context), source.0);
    }

    fn is_pending(&mut self, source: Irq) -> bool {
        let word = self.get(0x1000 + u64::from(source.0 / 32) * 4);
        word >> (source.0 % 32) & 1 != 0
    }
}

fn priority(source: Irq) -> u64 {
    u64::from(source.0) * 4
}

fn enable(context: PlicContext, source: Irq) -> u64 {
    0x2000 + u64::from(context.0) * 0x80 + u64::from(source.0 / 32) * 4
}

fn threshold(context: PlicContext) -> u64 {
    0x20_0000 + u64::from(context.0) * 0x1000
}

fn claim(context: PlicContext) -> u64 {
    threshold(context) + 4
}

#[test]
fn a_plic_has_at_most_what_its_registers_can_tell() {
    assert!(Plic::new(1024, 1).is_none());
    assert!(Plic::new(1, 15_873).is_none());
    let mut plic = Plic::new(1023, 15_872).unwrap();
    assert_eq!(plic.extent(), 0x400_0000);
    plic.put(priority(Irq(1023)), 1);
    plic.enable(PlicContext(15_871), Irq(1023), true);
    plic.set(Irq(1023), true);
    assert!(plic.notifies(PlicContext(15_871)));
    assert_eq!(plic.get(0x3ff_f004), 1023);
}

#[test]
fn after_reset_nothing_is_enabled_and_no_line_notifies() {
    let mut plic = Plic::of_virt();
    for source in 0..=SOURCES {
        plic.set(Irq(source), true);
        assert_eq!(plic.get(priority(Irq(source))), 0);
    }
    for context in (0..4).map(PlicContext) {
        assert!(!plic.notifies(context));
        assert_eq!(plic.claimed(context), 0);
        assert_eq!(plic.get(threshold(context)), 0);
    }
}

#[test]
fn a_high_line_notifies_is_claimed_once_and_again_after_completion() {
    let mut plic = Plic::listening(&[UART]);
    plic.set(UART, true);
    assert!(plic.notifies(HART_0) && plic.is_pending(UART));
    assert_eq!(plic.claimed(HART_0), UART.0);
    assert!(!plic.notifies(HART_0) && !plic.is_pending(UART));
    assert_eq!(plic.claimed(HART_0), 0);
    plic.completed(HART_0, UART);
    assert!(plic.notifies(HART_0), "the line is still high");
    assert_eq!(plic.claimed(HART_0), UART.0);
    plic.set(UART, false);
    plic.completed(HART_0, UART);
    assert!(!plic.notifies(HART_0));
}

#[test]
fn a_request_that_was_forwarded_stays_when_the_line_falls() {
    let mut plic = Plic::listening(&[UART]);
    plic.set(UART, true);
    plic.set(UART, false);
    assert!(plic.notifies(HART_0));
    assert_eq!(plic.claimed(HART_0), UART.0);
    plic.completed(HART_0, UART);
    assert!(!plic.notifies(HART_0));
}

#[test]
fn a_line_that_rises_while_it_is_serviced_waits_for_the_completion() {
    let mut plic = Plic::listening(&[UART]);
    plic.set(UART, true);
    assert_eq!(plic.claimed(HART_0), UART.0);
    plic.set(UART, false);
    plic.set(UART, true);
    assert!(!plic.notifies(HART_0) && !plic.is_pending(UART));
    plic.completed(HART_0, UART);
    assert!(plic.notifies(HART_0));
}

#[test]
fn pulses_while_it_is_serviced_are_one_more_request() {
    let mut plic = Plic::listening(&[DISK]);
    plic.pulse(DISK);
    assert_eq!(plic.claimed(HART_0), DISK.0);
    plic.pulse(DISK);
    plic.pulse(DISK);
    assert!(!plic.notifies(HART_0));
    plic.completed(HART_0, DISK);
    assert_eq!(plic.claimed(HART_0), DISK.0);
    plic.completed(HART_0, DISK);
    assert!(!plic.notifies(HART_0));
}

#[test]
fn what_comes_while_it_is_disabled_or_has_no_priority_is_kept() {
    let mut plic = Plic::of_virt();
    plic.set(UART, true);
    plic.set(UART, false);
    assert!(plic.is_pending(UART));
    plic.put(priority(UART), 1);
    assert!(!plic.notifies(HART_0));
    plic.enable(HART_0, UART, true);
    assert!(plic.notifies(HART_0));
    plic.put(priority(UART), 0);
    assert!(!plic.notifies(HART_0));
    assert_eq!(plic.claimed(HART_0), 0, "priority 0 is never");
    plic.put(priority(UART), 7);
    assert_eq!(plic.claimed(HART_0), UART.0);
}

#[test]
fn the_highest_priority_is_first_and_of_equals_the_lowest_number() {
    let sources = [3, 31, 32, 64, 96].map(Irq);
    let mut plic = Plic::listening(&sources);
    for (source, level) in sources.into_iter().zip([2, 5, 1, 5, 7]) {
        plic.put(priority(source), level);
        plic.set(source, true);
    }
    let order: Vec<u32> = (0..6).map(|_| plic.claimed(HART_0)).collect();
    assert_eq!(order, [96, 31, 64, 3, 32, 0]);
}

#[test]
fn a_threshold_hides_what_is_not_above_it_from_the_line_but_not_from_a_claim() {
    let mut plic = Plic::listening(&[UART]);
    plic.put(priority(UART), 3);
    plic.set(UART, true);
    for level in 0..=7 {
        plic.put(threshold(HART_0), level);
        assert_eq!(plic.notifies(HART_0), level < 3, "{level}");
    }
    assert_eq!(plic.claimed(HART_0), UART.0);
}

#[test]
fn all_contexts_that_enable_a_source_are_notified_and_one_claims_it() {
    let mut plic = Plic::listening(&[UART]);
    plic.enable(HART_1, UART, true);
    plic.set(UART, true);
    assert!(plic.notifies(HART_0) && plic.notifies(HART_1));
    assert!(!plic.notifies(PlicContext(0)) && !plic.notifies(PlicContext(2)));
    assert_eq!(plic.claimed(HART_1), UART.0);
    assert!(!plic.notifies(HART_0));
    assert_eq!(plic.claimed(HART_0), 0);
    plic.completed(HART_0, UART);
    assert!(plic.notifies(HART_1), "whoever completes it");
}

#[test]
fn a_completion_of_what_the_context_has_not_enabled_is_ignored() {
    let mut plic = Plic::listening(&[UART]);
    plic.set(UART, true);
    assert_eq!(plic.claimed(HART_0), UART.0);
    plic.completed(HART_1, UART);
    plic.enable(HART_0, UART, false);
    plic.completed(HART_0, UART);
    plic.enable(HART_0, UART, true);
    assert!(!plic.notifies(HART_0), "the gateway is still closed");
    plic.completed(HART_0, UART);
    assert!(plic.notifies(HART_0));
}

#[test]
fn completing_what_was_never_claimed_or_is_not_there_changes_nothing() {
    let mut plic = Plic::listening(&[UART, DISK]);
    plic.set(UART, true);
    for source in [UART.0, DISK.0, 0, SOURCES + 1, 1024, u32::MAX] {
        plic.completed(HART_0, Irq(source));
    }
    assert_eq!(plic.claimed(HART_0), UART.0);
    assert_eq!(plic.claimed(HART_0), 0);
}

#[test]
fn registers_have_the_bits_of_what_there_is() {
    let mut plic = Plic::new(40, 1).unwrap();
    for source in 0..1024 {
        plic.put(priority(Irq(source)), u32::MAX);
        let bits = if (1..=40).contains(&source) { 7 } else { 0 };
        assert_eq!(plic.get(priority(Irq(source))), bits, "{source}");
    }
    let context = PlicContext(0);
    for (word, bits) in [(0, !1), (1, 0x1ff), (2, 0), (31, 0)] {
        plic.put(0x2000 + word * 4, u32::MAX);
        assert_eq!(plic.get(0x2000 + word * 4), bits, "{word}");
        plic.put(0x2080 + word * 4, u32::MAX);
        assert_eq!(plic.get(0x2080 + word * 4), 0, "there is no context 1");
        plic.put(0x1000 + word * 4, u32::MAX);
        assert_eq!(plic.get(0x1000 + word * 4), 0, "pending is only read");
    }
    plic.put(threshold(context), u32::MAX);
    assert_eq!(plic.get(threshold(context)), 7);
}

#[test]
fn lines_of_sources_that_are_not_there_are_cut() {
    let mut plic = Plic::of_virt();
    for source in [0, SOURCES + 1, 1023, 1024, u32::MAX] {
        plic.set(Irq(source), true);
        plic.pulse(Irq(source));
    }
    assert!((0..32).all(|word| plic.get(0x1000 + word * 4) == 0));
}

/// What Linux's `irq-sifive-plic` does for a hart: `__plic_init`, then `plic_starting_cpu`.
fn start_like_linux(plic: &mut Plic, context: PlicContext) {
    for source in (1..=SOURCES).map(Irq) {
        plic.enable(context, source, false);
        plic.put(priority(source), 1);
    }
    plic.put(threshold(context), 0);
}

/// `plic_handle_irq` with `handle_fasteoi_irq`: what was handled, in order.
fn interrupt_like_linux(
    plic: &mut Plic,
    context: PlicContext,
    mut handle: impl FnMut(&mut Plic, Irq),
) -> Vec<u32> {
    let mut handled = Vec::new();
    loop {
        let source = plic.claimed(context);
        if source == 0 {
            return handled;
        }
        handle(plic, Irq(source));
        plic.completed(context, Irq(source));
        handled.push(source);
        assert!(handled.len() < 100, "an interrupt storm");
    }
}

#[test]
fn linux_handles_what_its_devices_raise_and_then_nothing() {
    let mut plic = Plic::of_virt();
    start_like_linux(&mut plic, HART_0);
    start_like_linux(&mut plic, HART_1);
    plic.set(UART, true);
    assert!(!plic.notifies(HART_0), "nobody requested it yet");
    for source in [DISK, UART] {
        plic.enable(HART_0, source, true);
    }
    plic.set(DISK, true);
    assert!(plic.notifies(HART_0) && !plic.notifies(HART_1));
    let handled = interrupt_like_linux(&mut plic, HART_0, |plic, source| plic.set(source, false));
    assert_eq!(handled, [DISK.0, UART.0]);
    assert!(!plic.notifies(HART_0));
    // A device with two things to say lowers its line only after the second.
    plic.set(UART, true);
    let mut left = 2;
    let handled = interrupt_like_linux(&mut plic, HART_0, |plic, source| {
        left -= 1;
        plic.set(source, left > 0);
    });
    assert_eq!(handled, [UART.0, UART.0]);
}

#[test]
fn linux_moves_an_interrupt_to_another_hart_without_losing_it() {
    let mut plic = Plic::of_virt();
    start_like_linux(&mut plic, HART_0);
    start_like_linux(&mut plic, HART_1);
    plic.enable(HART_0, UART, true);
    plic.set(UART, true);
    // `plic_set_affinity`.
    plic.enable(HART_0, UART, false);
    plic.enable(HART_1, UART, true);
    assert!(!plic.notifies(HART_0) && plic.notifies(HART_1));
    let handled = interrupt_like_linux(&mut plic, HART_1, |plic, source| plic.set(source, false));
    assert_eq!(handled, [UART.0]);
}

#[test]
fn every_word_and_width_is_survived() {
    let mut plic = Plic::new(SOURCES, 2).unwrap();
    let len = plic.extent();
    assert_eq!(len, 0x20_2000);
    let near = |at: u64| at.saturating_sub(9)..at + 9;
    let edges = [
        0, 0x180, 0x1000, 0x1080, 0x2000, 0x2100, 0x20_0000, 0x20_1000,
    ];
    let offsets = edges.into_iter().chain([len, u64::MAX - 24]).flat_map(near);
    for offset in offsets.chain((0..len).step_by(0x3fd)) {
        for width in [1, 2, 3, 4, 8, 16] {
            for value in [0, 1, 10, 0x80, 0xff] {
                assert_eq!(plic.write(offset, &[value; 16][..width]), None);
                let mut data = [value; 16];
                plic.read(offset, &mut data[..width]);
                if offset >= len {
                    assert!(data[..width].iter().all(|&byte| byte == 0xff));
                }
            }
        }
        plic.set(UART, offset % 2 == 0);
        assert!(!plic.notifies(PlicContext(2)), "there is none");
    }
}
