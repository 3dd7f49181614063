use hostd_lab::*;
fn main() -> anyhow::Result<()> {
    let spec = LabSpec::fast().card(CardKind::Ati0300).disks(6).forward(5555);
    let t = std::time::Instant::now();
    let lab = Lab::boot(spec)?;
    eprintln!("boot total {:?} ready {:?} settled {:?} accel {:?}", t.elapsed(), lab.ready_after, lab.settled_after, lab.accel);
    for c in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        let o = lab.run(&c)?;
        println!("$ {c}  [{} in {:?}]\n{}{}", o.status, t.elapsed(), o.stdout, o.stderr);
    }
    println!("port {}", lab.port(5555)?);
    println!("{}", lab.console_tail(15));
    Ok(())
}
