// SPDX-License-Identifier: Apache-2.0
//! Finds libriffle: in RIFFLE_LIB_DIR if that is set, else by pkg-config. RIFFLE_STATIC=1 links libriffle.a.
use std::{env, process::Command};

fn directory_by_pkg_config() -> Option<String> {
    let output = Command::new(env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into()))
        .args(["--variable=libdir", "riffle"])
        .output()
        .ok()?;
    let directory = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (output.status.success() && !directory.is_empty()).then_some(directory)
}

fn main() {
    for name in ["RIFFLE_LIB_DIR", "RIFFLE_STATIC", "PKG_CONFIG", "PKG_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let directory = env::var("RIFFLE_LIB_DIR").ok().or_else(directory_by_pkg_config);
    let directory = directory.unwrap_or_else(|| {
        eprintln!("riffle-sys: no riffle.pc: install libriffle, or set PKG_CONFIG_PATH or RIFFLE_LIB_DIR");
        std::process::exit(1)
    });
    println!("cargo:rustc-link-search=native={directory}");
    let kind = if env::var("RIFFLE_STATIC").map_or(false, |v| v == "1") { "static" } else { "dylib" };
    println!("cargo:rustc-link-lib={kind}=riffle");
}
