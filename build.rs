//! The pages are built into release binaries; their embedding follows files that change, this one those that are added.

fn main() {
    println!("cargo:rerun-if-changed=dashboards/ui/dist");
}
