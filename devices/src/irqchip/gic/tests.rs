mod driven;
mod listed;
mod model;

use super::*;
use driven::{Driven, Shown, Step, V2, V3, steps};
use listed::Listed;
use model::Model;
use proptest::prelude::*;

/// Does the steps to both, and compares all that can be seen after each.
fn compare<D: Driven>(mut gic: D, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model = Model::new(D::KIND);
    let mut last = [SPURIOUS; model::CPUS];
    for &step in steps {
        let step = step.with_last(&last);
        let seen = gic.step(step);
        prop_assert_eq!(seen, model.step(step), "{:?}", step);
        if let (Step::Acknowledge(cpu, _), Some(id)) = (step, seen)
            && id & 0x3ff < 1020
        {
            last[cpu] = id & 0x3ff;
        }
        for cpu in 0..model::CPUS {
            prop_assert_eq!(gic.shows(cpu), model.shows(cpu), "CPU {} {:?}", cpu, step);
        }
        prop_assert_eq!(ended_in(gic.gic()), model.take_ended(), "{:?}", step);
    }
    Ok(())
}

/// Does the steps of a guest that ends what it acknowledged, in order, to the GIC itself and to one
/// whose guest has list registers, and compares all that can be seen after each.
fn compare_lists<D: Driven>(
    mut direct: D,
    mut listed: Listed<D>,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let runs_on = listed.runs_on();
    // What was acknowledged and not ended, and what was ended and not deactivated.
    let mut running: [Vec<(usize, u32)>; model::CPUS] = Default::default();
    let mut ended: [Vec<u32>; model::CPUS] = Default::default();
    for &step in steps {
        let step = match step {
            Step::EndLast(cpu, _) => match running[cpu].pop() {
                Some((group, id)) => {
                    ended[cpu].push(id & 0x3ff);
                    Step::End(cpu, group, id)
                }
                None => continue,
            },
            Step::DeactivateLast(cpu) => match ended[cpu].pop() {
                Some(id) => Step::Deactivate(cpu, id),
                None => continue,
            },
            Step::End(..) | Step::Deactivate(..) | Step::Activate(..) => continue,
            // The guest changes nothing about what it services, nor how it does that.
            Step::Modes(..) | Step::Priority(..) | Step::Group(..)
                if running.iter().any(|it| !it.is_empty())
                    || ended.iter().any(|it| !it.is_empty()) =>
            {
                continue;
            }
            Step::Route(_, u8::MAX) => continue,
            // An interrupt is listed for one of its targets.
            Step::Route(id, mask) if runs_on => Step::Route(id, mask & mask.wrapping_neg()),
            // Which of several senders comes first is not the architecture's to say.
            Step::Send(_, _, id)
                if runs_on && (0..model::CPUS).any(|cpu| direct.shows(cpu).is_pending(id)) =>
            {
                continue;
            }
            step => step,
        };
        let seen = direct.step(step);
        prop_assert_eq!(seen, listed.step(step), "{:?}", step);
        if let (Step::Acknowledge(cpu, group), Some(id)) = (step, seen)
            && id & 0x3ff < 1020
        {
            running[cpu].push((group, id));
        }
        if let Step::Modes(cpu, ..) = step {
            ended[cpu].clear();
        }
        for cpu in 0..model::CPUS {
            let (shown, by_list) = (direct.shows(cpu), listed.shows(cpu));
            if runs_on {
                let told = |it: &Shown| (it.irq, it.fiq, it.running, it.highest);
                prop_assert_eq!(told(&shown), told(&by_list), "CPU {} {:?}", cpu, step);
            } else {
                prop_assert_eq!(shown, by_list, "CPU {} {:?}", cpu, step);
            }
        }
        if !runs_on {
            prop_assert_eq!(ended_in(direct.gic()), ended_in(listed.gic()), "{:?}", step);
        }
    }
    (0..model::CPUS).for_each(|cpu| listed.save(cpu));
    for cpu in 0..model::CPUS {
        let (shown, by_list) = (direct.shows(cpu), listed.inner().shows(cpu));
        prop_assert_eq!(shown.pending, by_list.pending, "CPU {}", cpu);
        prop_assert_eq!(shown.active, by_list.active, "CPU {}", cpu);
    }
    prop_assert_eq!(ended_in(direct.gic()), ended_in(listed.gic()));
    Ok(())
}

fn ended_in(gic: &mut Gic) -> Vec<GicLine> {
    iter::from_fn(|| gic.take_ended()).collect()
}

/// Whatever was done before, a driver that starts the GIC anew finds an interrupt that came.
fn loses_nothing<D: Driven>(
    mut gic: D,
    steps: &[Step],
    line: GicLine,
) -> Result<(), TestCaseError> {
    for &step in steps {
        gic.step(step);
    }
    for id in model::IDS.into_iter().filter(|&id| id >= 16) {
        let lines = (0..3).map(|cpu| GicLine::of((id < 32).then_some(VcpuId(cpu)), id).unwrap());
        lines.for_each(|line| gic.gic().set(line, false));
    }
    gic.gic().pulse(line);
    let (cpu, wanted) = line.interrupt().unwrap();
    let cpu = usize::try_from(cpu.0).unwrap();
    gic.start_anew();
    let mut seen = Vec::new();
    while let Some(id) = gic
        .step(Step::Acknowledge(cpu, D::GROUP))
        .filter(|id| id & 0x3ff < 1020)
    {
        prop_assert!(seen.len() < 100, "it does not end");
        gic.step(Step::End(cpu, D::GROUP, id & 0x3ff));
        seen.push(id & 0x3ff);
    }
    prop_assert!(seen.contains(&wanted), "{:?}", seen);
    prop_assert!(!gic.gic().notifies(VcpuId(line.interrupt().unwrap().0.0)));
    Ok(())
}

fn lines() -> impl Strategy<Value = GicLine> {
    prop::sample::select(model::IDS.as_slice()).prop_filter_map("none leads there", |id| {
        GicLine::of((id < 32).then_some(VcpuId::BOOT), id)
    })
}

proptest! {
    #[test]
    fn a_gicv2_does_what_the_architecture_says(steps in steps()) {
        compare(V2::new(), &steps)?;
    }

    #[test]
    fn a_gicv3_does_what_the_architecture_says(steps in steps()) {
        compare(V3::new(), &steps)?;
    }

    #[test]
    fn a_guest_of_a_gicv2_does_not_see_whether_it_has_list_registers(
        steps in steps(),
        registers in 1..=16usize,
    ) {
        for registers in [1, registers] {
            compare_lists(V2::new(), Listed::new(V2::new(), registers), &steps)?;
            compare_lists(V2::new(), Listed::running_on(V2::new(), registers), &steps)?;
        }
    }

    #[test]
    fn a_guest_of_a_gicv3_does_not_see_whether_it_has_list_registers(
        steps in steps(),
        registers in 1..=16usize,
    ) {
        for registers in [1, registers] {
            compare_lists(V3::new(), Listed::new(V3::new(), registers), &steps)?;
            compare_lists(V3::new(), Listed::running_on(V3::new(), registers), &steps)?;
        }
    }

    #[test]
    fn a_gicv2_loses_nothing(steps in steps(), line in lines()) {
        loses_nothing(V2::new(), &steps, line)?;
    }

    #[test]
    fn a_gicv3_loses_nothing(steps in steps(), line in lines()) {
        loses_nothing(V3::new(), &steps, line)?;
    }

    /// Whatever a guest does to its registers, nothing panics and list registers can be used.
    #[test]
    fn a_hostile_guest_gets_nowhere(
        accesses in prop::collection::vec(access(), 0..300),
        registers in 1..=16usize,
    ) {
        let (mut v2, mut v3) = (V2::new().0, V3::new().0);
        let list = |cpu| ListRegisters::new(VcpuId(cpu), registers).unwrap();
        let (mut list_2, mut list_3) = (list(0), list(1));
        for (cpu, at, data, value) in accesses {
            v2.write_distributor(cpu, at, &data);
            v2.write_cpu_interface(cpu, at, &data);
            v3.write_distributor(at, &data);
            v3.write_redistributor(at, &data);
            let mut read = data.clone();
            v2.read_distributor(cpu, at, &mut read);
            v2.read_cpu_interface(cpu, at, &mut read);
            v3.read_distributor(at, &mut read);
            v3.read_redistributor(at, &mut read);
            for register in (0..64).filter_map(|low| IccRegister::from_encoding(0xc640 | low)) {
                v3.write_system_register(cpu, register, value);
                v3.read_system_register(cpu, register);
            }
            for (gic, list) in [(&mut *v2, &mut list_2), (&mut *v3, &mut list_3)] {
                let after = AfterRun {
                    registers: &[value; 3],
                    control: value,
                    machine_control: value,
                };
                list.load(gic);
                list.save(gic, after);
                gic.take_ended();
                let all = [0, 1, 2, 3, u32::MAX].map(|cpu| gic.notifies(VcpuId(cpu)));
                prop_assert!(!all[3] && !all[4]);
            }
        }
    }
}

/// A CPU, an offset near something, what is written there, and what to system registers.
fn access() -> impl Strategy<Value = (VcpuId, u64, Vec<u8>, u64)> {
    let offset = prop_oneof![
        0..0x1000u64,
        0..0x120u64,
        0xf00..0x1004u64,
        0x6000..0x8000u64,
        0x1_0000..0x1_0d00u64,
        0x3_0000..0x3_0d00u64,
        any::<u64>(),
    ];
    let data = prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff)], 1..=16);
    (0..4u32, offset, data, any::<u64>())
        .prop_map(|(cpu, offset, data, value)| (VcpuId(cpu), offset, data, value))
}
