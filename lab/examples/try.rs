use hostd_lab::*;
fn main() -> anyhow::Result<()> {
    let mut spec = LabSpec::fast();
    let e = |n: &str| std::env::var(n).unwrap_or_default();
    if !e("T_DISKS").is_empty() { spec = spec.disks(e("T_DISKS").parse()?); }
    if !e("T_CARD").is_empty() { spec = spec.card(CardKind::Ati0300); }
    if !e("T_CARD2").is_empty() { spec = spec.card(CardKind::Secondary0380).card(CardKind::BootVga0300); }
    if !e("T_SHARED").is_empty() { spec = spec.shared_group(); }
    if e("T_IOMMU") == "amd" { spec = spec.iommu(Iommu::Amd); }
    if e("T_IOMMU") == "none" { spec = spec.iommu(Iommu::None); }
    if e("T_TIER") == "full" { spec.tier = Tier::Full; }
    if e("T_TIER") == "own" { spec.tier = Tier::OwnBoot; }
    if !e("T_APP").is_empty() { spec = spec.cmdline(&e("T_APP")); }
    let t = std::time::Instant::now();
    let lab = Lab::boot(spec)?;
    eprintln!("boot total {:?} ready {:?} settled {:?} accel {:?}", t.elapsed(), lab.ready_after, lab.settled_after, lab.accel);
    for c in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        if c == "@unplug" { lab.unplug_disk(2)?; println!("unplug {:?}", t.elapsed()); continue }
        if c == "@plug" { lab.plug_disk(2)?; println!("plug {:?}", t.elapsed()); continue }
        if c == "@unplugcard" { lab.unplug_card(0)?; println!("unplug {:?}", t.elapsed()); continue }
        if c == "@plugcard" { lab.plug_card(0)?; println!("plug {:?}", t.elapsed()); continue }
        let o = lab.run_for(&c, std::time::Duration::from_secs(150))?;
        println!("$ {c}  [{} in {:?}]\n{}{}", o.status, t.elapsed(), o.stdout, o.stderr);
    }
    println!("{}", lab.console_tail(15));
    Ok(())
}
