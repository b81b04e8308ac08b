// Package emulator builds the two machine emulators that the lab boots Xen in, and keeps them in the cache.
//
// Debian's packages of them do not serve: its Bochs is old and three times slower, and its QEMU does not intercept int3 under AMD SVM, at times
// delivers an interrupt twice, and with two CPUs loses what state the first is in.
package emulator

import (
	"context"
	_ "embed"

	"github.com/govmi/govmi/internal/lab/build"
)

// fuzz lets the patches apply to updates of the packages.
const fuzz = 2

//go:embed bochs-ram-image.patch
var bochsPatch string

var bochs = build.Recipe{
	Suite:    "trixie",
	Source:   "bochs",
	OrigOnly: true,
	Patches:  []string{bochsPatch},
	Fuzz:     fuzz,
	Steps: [][]string{
		{
			"./configure",
			"--enable-cpu-level=6", "--enable-x86-64", "--enable-vmx=2", "--enable-smp", "--enable-pci", "--enable-evex", "--enable-avx",
			"--enable-repeat-speedups", "--enable-fast-function-calls", "--enable-handlers-chaining", "--enable-all-optimizations",
			"--disable-debugger", "--disable-docbook", "--disable-plugins", "--disable-readline", "--with-nogui",
			"CFLAGS=-O2", "CXXFLAGS=-O2", // without debugging symbols, which take time
		},
		{"make", "bochs"},
	},
	Program:  "bochs",
	Packages: []string{"g++"},
}

//go:embed qemu-svm-int3.patch
var qemuInt3 string

//go:embed qemu-svm-inject.patch
var qemuInject string

//go:embed qemu-svm-flags.patch
var qemuFlags string

var qemu = build.Recipe{
	Suite:   "bookworm",
	Source:  "qemu",
	Patches: []string{qemuInt3, qemuInject, qemuFlags},
	Fuzz:    fuzz,
	// The lane's machine has no devices but those of its chipset, and QEMU by default two hundred files more to build.
	Files: map[string]string{"configs/devices/x86_64-softmmu/lane.mak": "CONFIG_I440FX=y\n"},
	Dir:   "govmi-build",
	Steps: [][]string{
		{
			"../configure",
			"--target-list=x86_64-softmmu", "--without-default-features", "--without-default-devices", "--with-devices-x86_64=lane",
			"--enable-system", "--enable-tcg", "--enable-fdt=system", "--disable-docs", "--disable-install-blobs", "--disable-debug-info",
		},
		{"ninja", "qemu-system-x86_64"},
	},
	Program: "qemu-system-x86_64",
	Packages: []string{
		"gcc", "pkg-config", "ninja-build", "meson", "python3-venv", "libglib2.0-dev", "libpixman-1-dev", "libfdt-dev", "zlib1g-dev",
	},
}

// Bochs returns the path of Bochs 3.0 with VMX, building it if the cache has none: about two minutes on two cores. progress, which
// may be nil, is told what is going on.
func Bochs(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	return bochs.Get(ctx, cacheDir, progress)
}

// QEMU returns the path of qemu-system-x86_64, corrected for what a nested hypervisor needs of SVM, building it if the
// cache has none: about two minutes on two cores. progress, which may be nil, is told what is going on.
func QEMU(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	return qemu.Get(ctx, cacheDir, progress)
}
