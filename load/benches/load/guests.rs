//! Many guests of one kernel at a time, each in a process of its own.

use crate::touch::What;
use crate::{Outcome, Stock, load, meter, middle, peer};
use firstlight_boot::Kaslr;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

const GUESTS: usize = 20;

/// B7: the memory of each of twenty guests, shared pages counted by their share.
pub(crate) fn share(stock: &Stock) -> Outcome {
    println!("B7 {GUESTS} guests, share of memory each (goal: 0.55 x; at the start 64 KiB)");
    for (what, role) in [("image touched", "image"), ("and 24 MiB more", "all")] {
        let mapped = group(stock, &format!("mapped-{role}"))?;
        let copied = group(stock, &format!("copied-{role}"))?;
        println!("   firstlight            {mapped:>9.0} KiB  {what}");
        println!(
            "   linux-loader, ELF     {copied:>9.0} KiB  {:.2} x",
            mapped / copied
        );
    }
    let idle = group(stock, "idle")?;
    println!("   firstlight, at start  {idle:>9.0} KiB, of which the program itself is most");
    Ok(())
}

/// What each takes, when all are there.
fn group(stock: &Stock, role: &str) -> Outcome<f64> {
    let mut guests = Vec::new();
    for _ in 0..GUESTS {
        guests.push(start(stock, role)?);
    }
    let sizes = guests.iter().map(|guest| guest.id().to_string());
    let size =
        middle(sizes.map(|id| f64::from(i32::try_from(meter::smaps("Pss:", &id)).unwrap_or(0))));
    for mut guest in guests {
        // Its standard input ends with this.
        drop(guest.stdin.take());
        guest.wait()?;
    }
    Ok(size)
}

fn start(stock: &Stock, role: &str) -> Outcome<Child> {
    let mut guest = Command::new(env::current_exe()?)
        .arg(format!("--as={role}"))
        .args([&stock.path, &stock.unpacked, &stock.cache])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    let output = guest.stdout.take().ok_or("a pipe")?;
    BufReader::new(output).read_line(&mut ready)?;
    Ok(guest)
}

/// What a process does that was started as a guest: load, touch, and wait for the end.
pub(crate) fn be(role: &str, words: &[String]) -> Outcome {
    let [path, unpacked, cache] = words else {
        return Err("a guest has three words".into());
    };
    let stock = Stock::of_guest(path.into(), unpacked.into(), cache.into());
    if role == "loop" {
        for _ in 0..5000 {
            drop(load(&stock, Kaslr::Off)?);
        }
        return Ok(());
    }
    let what = if role.ends_with("-all") {
        What::All
    } else {
        What::Image
    };
    let memory: Box<dyn std::any::Any> = if role.starts_with("copied") {
        let boot = stock.boot()?;
        let memory = peer::elf(&stock.unpacked)?;
        boot.touch_peer(&memory, what);
        Box::new(memory)
    } else {
        let (_, memory) = load(&stock, Kaslr::Off)?;
        if role.starts_with("mapped") {
            stock.boot()?.touch(&memory, what);
        }
        Box::new(memory)
    };
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(memory);
    Ok(())
}
