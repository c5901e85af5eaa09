//! What a policy does to a thread, and what is refused beforehand.

use super::*;
use rustix::thread::{core_scheduling_cookie, sched_getaffinity};
use std::fs;
use std::thread;

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

/// Where the calling thread may run.
fn allowed() -> CpuSet {
    let mask = sched_getaffinity(None).unwrap();
    let cpus = (0..1024).filter(|&cpu| mask.is_set(usize::try_from(cpu).unwrap()));
    cpus.collect()
}

/// The real-time priority and the policy of the calling thread (proc_pid_stat(5), fields 40 and
/// 41).
fn scheduling() -> (i32, i32) {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let field = |number: usize| {
        fields
            .split(' ')
            .nth(number - 3)
            .unwrap()
            .parse::<i32>()
            .unwrap()
    };
    (field(40), field(41))
}

fn pinned(vcpu: u32, cpus: CpuSet) -> VcpuPolicy {
    VcpuPolicy {
        affinity: VcpuAffinity::PerVcpu(BTreeMap::from([(VcpuId(vcpu), cpus)])),
        ..VcpuPolicy::default()
    }
}

#[test]
fn a_pinned_vcpu_runs_where_it_is_pinned_and_others_anywhere() {
    let before = allowed();
    let last: CpuSet = before.iter().last().into_iter().collect();
    let enforcement = pinned(1, last.clone()).enforcement();
    thread::scope(|scope| {
        let on = |vcpu| {
            let enforcement = &enforcement;
            scope.spawn(move || {
                enforcement.apply(VcpuId(vcpu)).unwrap();
                allowed()
            })
        };
        assert_eq!(on(1).join().unwrap(), last);
        assert_eq!(on(0).join().unwrap(), before);
    });
    let global = VcpuPolicy {
        affinity: VcpuAffinity::Global(last.clone()),
        ..VcpuPolicy::default()
    };
    let applied = thread::spawn(move || {
        global.enforcement().apply(VcpuId(7)).unwrap();
        allowed()
    });
    assert_eq!(applied.join().unwrap(), last);
}

#[test]
fn a_real_time_vcpu_takes_turns_at_level_6() {
    const SCHED_RR: i32 = 2;
    let policy = VcpuPolicy {
        realtime: BTreeSet::from([VcpuId(1)]),
        ..VcpuPolicy::default()
    };
    let enforcement = policy.enforcement();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            enforcement.apply(VcpuId::BOOT).unwrap();
            scheduling()
        });
        assert_eq!(other.join().unwrap(), (0, 0));
        let realtime = scope.spawn(|| enforcement.apply(VcpuId(1)).map(|()| scheduling()));
        match realtime.join().unwrap() {
            Ok(scheduling) => assert_eq!(scheduling, (6, SCHED_RR)),
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with("cannot make vCPU 1 real-time"), "{text}");
                eprintln!("skipped: {text}");
            }
        }
    });
}

#[test]
fn all_vcpus_have_one_cookie_that_nobody_else_has() {
    let policy = VcpuPolicy {
        core_scheduling: true,
        ..VcpuPolicy::default()
    };
    let enforcement = policy.enforcement();
    let cookie = || core_scheduling_cookie(gettid(), CoreSchedulingScope::Thread);
    let (leader_ready, leader) = std::sync::mpsc::channel();
    let (over, wait) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        let enforcement = &enforcement;
        scope.spawn(move || {
            let applied = enforcement.apply(VcpuId::BOOT).map(|()| cookie());
            leader_ready.send(applied).unwrap();
            // The first has to be there for the others.
            let _ = wait.recv();
        });
        match leader.recv().unwrap() {
            Ok(Ok(shared)) if shared != 0 => {
                let second = scope.spawn(move || {
                    enforcement.apply(VcpuId(1)).unwrap();
                    cookie().unwrap()
                });
                assert_eq!(second.join().unwrap(), shared);
                assert_ne!(cookie().unwrap(), shared);
            }
            Ok(_) => eprintln!("skipped: no core of this host runs two threads"),
            Err(error) => eprintln!("skipped: {error}"),
        }
        drop(over);
    });
}

#[test]
fn what_cannot_be_is_told_before_the_guest_runs() {
    let online = set("0-1,3");
    let check = |policy: VcpuPolicy| {
        let refused = policy.check(2, Some(&online));
        refused.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    };
    assert_eq!(check(VcpuPolicy::default()), "fine");
    assert_eq!(check(pinned(1, set("0,3"))), "fine");
    assert_eq!(
        check(pinned(2, set("0"))),
        "vCPU 2 is to be pinned, but there are 2, counted from 0"
    );
    assert_eq!(
        check(pinned(0, set("1-3"))),
        "processor 2 of the host is not online; 0-1,3 are"
    );
    assert_eq!(
        check(pinned(0, CpuSet::default())),
        "a vCPU is to be pinned to no processor at all"
    );
    assert_eq!(
        check(pinned(0, set("1024"))),
        "no vCPU can be pinned to processor 1024: it is beyond the first 1024"
    );
    let global = VcpuAffinity::Global(set("4"));
    let realtime = BTreeSet::from([VcpuId(0), VcpuId(5)]);
    assert_eq!(
        check(VcpuPolicy {
            affinity: global.clone(),
            ..VcpuPolicy::default()
        }),
        "processor 4 of the host is not online; 0-1,3 are"
    );
    assert_eq!(
        check(VcpuPolicy {
            realtime,
            ..VcpuPolicy::default()
        }),
        "vCPU 5 is to be real-time, but there are 2, counted from 0"
    );
    // A host that does not tell is asked when the guest starts.
    let unknown = VcpuPolicy {
        affinity: global,
        ..VcpuPolicy::default()
    };
    unknown.check(1, None).unwrap();
}

#[test]
fn a_processor_that_is_not_there_is_named_by_the_thread() {
    let policy = pinned(0, set("1023"));
    let applied = thread::spawn(move || policy.enforcement().apply(VcpuId::BOOT));
    let error = applied.join().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot pin vCPU 0 to the host's processors 1023"
    );
}
