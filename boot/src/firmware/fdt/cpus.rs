//! vCPUs: which there are, how they belong together and how fast they are (`cpu/cpu-topology.txt`,
//! `cpu/cpu-capacity.txt`, `opp/opp-v2.yaml`).

use super::node::Node;
use super::{FdtError, handle};
use crate::platform::{Cpu, OperatingPoint, Topology};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

/// What a machine says of its vCPUs.
pub(super) struct Cpus {
    /// `/cpus`.
    pub(super) node: Node,
    /// The tables of operating points that it refers to.
    pub(super) tables: Vec<Node>,
}

/// Describes that many vCPUs, each by what `node` makes of its number and by what `topology` adds.
pub(super) fn cpus(
    count: u32,
    topology: &Topology,
    node: impl Fn(u32) -> Node,
) -> Result<Cpus, FdtError> {
    check(count, topology)?;
    let tables = distinct(topology);
    let cpus = (0..count).map(|number| {
        let told = topology.cpus.iter().find(|cpu| cpu.number == number);
        let node = node(number).label(format!("cpu{number}"), handle::cpu(number));
        told.into_iter()
            .fold(node, |node, cpu| describe(node, cpu, &tables))
    });
    Ok(Cpus {
        node: Node::new("cpus")
            .cells(1, 0)
            .with_all(cpus)
            .with(map(count, topology)),
        tables: (0..).zip(&tables).map(table).collect(),
    })
}

fn check(count: u32, topology: &Topology) -> Result<(), FdtError> {
    let clustered = topology.clusters.iter().flatten().copied();
    check_numbers(count, "put into a cluster", clustered)?;
    let described = topology.cpus.iter().map(|cpu| cpu.number);
    check_numbers(count, "described", described)?;
    for cpu in &topology.cpus {
        for (before, point) in cpu
            .operating_points
            .iter()
            .zip(cpu.operating_points.iter().skip(1))
        {
            if point.hz <= before.hz {
                return Err(FdtError::OperatingPoints {
                    number: cpu.number,
                    hz: point.hz,
                    before: before.hz,
                });
            }
        }
    }
    Ok(())
}

fn check_numbers(
    count: u32,
    what: &'static str,
    numbers: impl Iterator<Item = u32>,
) -> Result<(), FdtError> {
    let mut seen = BTreeSet::new();
    for number in numbers {
        if number >= count {
            return Err(FdtError::NoSuchCpu { number, count });
        }
        if !seen.insert(number) {
            return Err(FdtError::CpuTwice { number, what });
        }
    }
    Ok(())
}

/// The lists of operating points that there are; vCPUs with the same ones share a table.
fn distinct(topology: &Topology) -> Vec<&[OperatingPoint]> {
    let mut tables: Vec<&[OperatingPoint]> = Vec::new();
    for cpu in &topology.cpus {
        let points = cpu.operating_points.as_slice();
        if !points.is_empty() && !tables.contains(&points) {
            tables.push(points);
        }
    }
    tables
}

fn describe(node: Node, cpu: &Cpu, tables: &[&[OperatingPoint]]) -> Node {
    let node = cpu.capacity.into_iter().fold(node, |node, capacity| {
        node.set("capacity-dmips-mhz", capacity)
    });
    (0..)
        .zip(tables)
        .filter(|&(_, &points)| points == cpu.operating_points.as_slice())
        .fold(node, |node, (number, _)| {
            node.set("operating-points-v2", handle::operating_points(number))
        })
}

fn table((number, points): (u32, &&[OperatingPoint])) -> Node {
    let points = points.iter().map(|point| {
        let node = Node::new(format!("opp-{}", point.hz)).set("opp-hz", point.hz);
        point.microvolts.into_iter().fold(node, |node, microvolts| {
            node.set("opp-microvolt", microvolts)
        })
    });
    Node::new(format!("opp-table-{number}"))
        .compatible(&["operating-points-v2"])
        .label(
            format!("opp_table{number}"),
            handle::operating_points(number),
        )
        .with_all(points)
}

fn map(count: u32, topology: &Topology) -> Node {
    let clustered: BTreeSet<u32> = topology.clusters.iter().flatten().copied().collect();
    let rest: Vec<u32> = (0..count)
        .filter(|number| !clustered.contains(number))
        .collect();
    let clusters = topology.clusters.iter().chain([&rest]);
    let clusters = clusters.filter(|cluster| !cluster.is_empty());
    Node::new("cpu-map").with_all((0_u32..).zip(clusters).map(|(number, cluster)| {
        let cores = (0_u32..)
            .zip(cluster)
            .map(|(number, &cpu)| Node::new(format!("core{number}")).set("cpu", handle::cpu(cpu)));
        Node::new(format!("cluster{number}")).with_all(cores)
    }))
}
