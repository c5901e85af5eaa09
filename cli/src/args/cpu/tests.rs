//! What is read, what is told, and what is refused.

use super::*;
use clap::Parser;
use std::fs;
use std::path::PathBuf;

#[derive(Debug, Parser)]
struct Words {
    #[command(flatten)]
    cpu: CpuArgs,
    #[command(flatten)]
    scheduling: SchedulingArgs,
}

fn parse(words: &[&str]) -> Result<Words, String> {
    let words = ["firstlight"].iter().chain(words);
    Words::try_parse_from(words).map_err(|error| error.to_string())
}

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

fn pinned(each: &[(u32, &str)]) -> VcpuAffinity {
    let each = each.iter();
    VcpuAffinity::PerVcpu(each.map(|&(vcpu, on)| (VcpuId(vcpu), set(on))).collect())
}

/// A host of two slow processors and two fast ones.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Self {
        let name = format!("firstlight-cpu-{name}-{}", std::process::id());
        let host = Self(std::env::temp_dir().join(name));
        host.write("online", "0-3");
        for (cpu, capacity, khz, cluster) in [
            (0, "512", "600000 1200000", "0-1"),
            (1, "512", "600000 1200000", "0-1"),
            (2, "1024", "2400000 1200000", "2-3"),
            (3, "1024", "2400000", "2-3"),
        ] {
            host.write(&format!("cpu{cpu}/cpu_capacity"), capacity);
            let file = format!("cpu{cpu}/cpufreq/scaling_available_frequencies");
            host.write(&file, khz);
            host.write(&format!("cpu{cpu}/topology/core_siblings_list"), cluster);
        }
        host
    }

    fn write(&self, file: &str, content: &str) {
        let path = self.0.join("devices/system/cpu").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn tells(&self, words: &[&str], cpus: u32) -> Result<Topology, String> {
        let cpu = parse(words).unwrap().cpu;
        let topology = cpu.topology(cpus, &HostCpus::new(&self.0));
        topology.map_err(|failure| {
            assert_eq!(failure.status(), ExitStatus::Usage);
            failure.to_string()
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // What is left of it is a temporary file.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cpu(number: u32, capacity: Option<u32>, khz: &[u64]) -> Cpu {
    let points = khz.iter().map(|khz| OperatingPoint {
        hz: khz * 1000,
        microvolts: None,
    });
    Cpu {
        number,
        capacity,
        operating_points: points.collect(),
    }
}

#[test]
fn vcpus_are_pinned_together_or_one_by_one() {
    let affinity = |words: &[&str]| parse(words).unwrap().cpu.affinity(2);
    assert_eq!(affinity(&[]), VcpuAffinity::Anywhere);
    assert_eq!(
        affinity(&["--cpu-affinity", "0-2,5"]),
        VcpuAffinity::Global(set("0-2,5"))
    );
    assert_eq!(
        affinity(&["--cpu-affinity", "0=2,3:1=4"]),
        pinned(&[(0, "2-3"), (1, "4")])
    );
}

#[test]
fn what_is_no_affinity_capacity_or_frequency_is_refused_with_the_reason() {
    for (option, text, reason) in [
        ("--cpu-affinity", "", "\"\" is no number"),
        ("--cpu-affinity", "3-1", "the last is below the first"),
        ("--cpu-affinity", "0=2,1=3", "\"1=3\" is no number"),
        ("--cpu-affinity", "0=2:3", "\"3\" names no vCPU"),
        ("--cpu-affinity", "x=2", "\"x\" is no number of a vCPU"),
        ("--cpu-affinity", "0=2:0=3", "vCPU 0 is spoken of twice"),
        ("--cpu-cluster", "1-", "\"\" is no number"),
        ("--cpu-capacity", "512", "\"512\" names no vCPU"),
        ("--cpu-capacity", "0=0", "0 is no capacity"),
        ("--cpu-capacity", "0=-1", "\"-1\" is no capacity"),
        ("--cpu-frequencies", "0=1,", "\"\" is no frequency"),
        ("--cpu-frequencies", "0=1,1=2", "\"1=2\" is no frequency"),
        ("--cpu-frequencies", "0=5000000000", "is no frequency"),
        ("--rt-cpus", "a", "\"a\" is no number"),
    ] {
        let error = parse(&[option, text]).unwrap_err();
        assert!(error.contains(reason), "{option} {text}: {error}");
    }
}

#[test]
fn what_is_given_is_told() {
    let host = Host::new("given");
    assert_eq!(host.tells(&[], 4), Ok(Topology::default()));
    let words = [
        "--cpu-cluster=0,2",
        "--cpu-cluster=1",
        "--cpu-capacity=0=512,2=1024",
        "--cpu-frequencies=2=3000000,1000000,3000000:1=5",
    ];
    assert_eq!(
        host.tells(&words, 3),
        Ok(Topology {
            clusters: vec![vec![0, 2], vec![1]],
            cpus: vec![
                cpu(0, Some(512), &[]),
                cpu(1, None, &[5]),
                cpu(2, Some(1024), &[1_000_000, 3_000_000]),
            ],
        })
    );
}

#[test]
fn a_vcpu_that_is_not_there_or_in_two_clusters_is_wrong_usage() {
    let host = Host::new("wrong");
    for (words, reason) in [
        (
            ["--cpu-capacity=2=5"].as_slice(),
            "--cpu-capacity speaks of vCPU 2, but there are 2",
        ),
        (
            &["--cpu-frequencies=7=5"],
            "--cpu-frequencies speaks of vCPU 7",
        ),
        (&["--cpu-cluster=0-2"], "--cpu-cluster speaks of vCPU 2"),
        (
            &["--cpu-cluster=0", "--cpu-cluster=0-1"],
            "vCPU 0 into two clusters",
        ),
    ] {
        let error = host.tells(words, 2).unwrap_err();
        assert!(error.contains(reason), "{words:?}: {error}");
    }
}

#[test]
fn vcpus_are_what_they_run_on_and_run_where_they_are_told_they_do() {
    let host = Host::new("copied");
    let told = Topology {
        clusters: vec![vec![0, 2], vec![1]],
        cpus: vec![
            cpu(0, Some(512), &[600_000, 1_200_000]),
            cpu(1, Some(1024), &[2_400_000]),
            cpu(2, Some(512), &[600_000, 1_200_000]),
        ],
    };
    // vCPU 0 is not named, so it is on processor 0.
    let words = ["--host-cpu-topology", "--cpu-affinity=1=3:2=0-1"];
    assert_eq!(host.tells(&words, 3), Ok(told));
    let affinity = parse(&words).unwrap().cpu.affinity(3);
    assert_eq!(affinity, pinned(&[(0, "0"), (1, "3"), (2, "0-1")]));
    let all = host.tells(&["--host-cpu-topology", "--cpu-affinity=0-1"], 2);
    assert_eq!(all.unwrap().clusters, [[0, 1]]);
}

#[test]
fn what_is_given_goes_before_what_the_host_says() {
    let host = Host::new("before");
    let words = [
        "--host-cpu-topology",
        "--cpu-cluster=0-1",
        "--cpu-capacity=1=7",
    ];
    let told = host.tells(&words, 2).unwrap();
    assert_eq!(told.clusters, [[0, 1]]);
    assert_eq!(told.cpus[0].capacity, Some(512));
    assert_eq!(told.cpus[1], cpu(1, Some(7), &[600_000, 1_200_000]));
}

#[test]
fn a_vcpu_on_processors_that_differ_is_not_told_lies() {
    let host = Host::new("differ");
    for (affinity, reason) in [
        (
            "--cpu-affinity=0=1-2",
            "vCPU 0 is: it runs on the host's processors 1-2, which have different capacities",
        ),
        ("--cpu-affinity=0=2-3", "different frequencies"),
        ("--cpu-affinity=0-3", "different capacities"),
    ] {
        let error = host
            .tells(&["--host-cpu-topology", affinity], 1)
            .unwrap_err();
        assert!(error.contains(reason), "{affinity}: {error}");
    }
    let error = host.tells(&["--host-cpu-topology"], 5).unwrap_err();
    assert!(
        error.contains("processor 4 of the host is not online; 0-3 are"),
        "{error}"
    );
}

#[test]
fn a_host_that_cannot_be_asked_is_the_hosts_failure() {
    let host = Host::new("malformed");
    host.write("cpu1/cpu_capacity", "fast");
    let cpu = parse(&["--host-cpu-topology"]).unwrap().cpu;
    let failure = cpu.topology(1, &HostCpus::new(&host.0)).unwrap_err();
    assert_eq!(failure.status(), ExitStatus::Host);
    let text = failure.to_string();
    assert!(
        text.contains("cpu1/cpu_capacity is to hold a capacity, but says \"fast\""),
        "{text}"
    );
}

#[test]
fn a_policy_is_what_was_asked_for() {
    let policy = |words: &[&str]| {
        let words = parse(words).unwrap();
        words.scheduling.policy(&words.cpu, 2)
    };
    assert!(policy(&[]).is_default());
    assert_eq!(
        policy(&["--rt-cpus=0-1", "--core-scheduling", "--cpu-affinity=3"]),
        VcpuPolicy {
            affinity: VcpuAffinity::Global(set("3")),
            realtime: BTreeSet::from([VcpuId(0), VcpuId(1)]),
            core_scheduling: true,
        }
    );
}
