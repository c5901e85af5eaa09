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
}
