//! libFuzzer's way to the target `irqchip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| -> libfuzzer_sys::Corpus {
    firstlight_fuzz::drive(&firstlight_fuzz::irqchip::TARGET, input)
});
