package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// Hypercalls of Intel's and of AMD's processors. The kernel is not asked.
func vmcall(op, arg uint64) int64
func vmmcall(op, arg uint64) int64

// sidt stores the register of the interrupt table: 10 bytes.
func sidt(to *byte)

// One access of 8 bytes each.
func store(to *byte, v uint64)
func load(from *byte) uint64

// vendor is what CPUID says of the processor, by the rest of leaf 0.
func vendor() string {
	_, b, c, d := cpuid(0, 0)
	var s []byte
	for _, r := range []uint32{b, d, c} {
		s = binary.LittleEndian.AppendUint32(s, r)
	}
	return string(s)
}

// runCPUID executes CPUID n times, which must have the same answer each time, and
// prints it.
func runCPUID(args []string) error {
	fs := flag.NewFlagSet("cpuid", flag.ContinueOnError)
	n := fs.Int("n", 1, "times")
	if err := fs.Parse(args); err != nil {
		return err
	}
	first := vendor()
	for i := range *n - 1 {
		if v := vendor(); v != first {
			return fmt.Errorf("CPUID said %q, and at %d %q", first, i+1, v)
		}
	}
	fmt.Printf("cpuid n=%d vendor=%q\n", *n, first)
	return nil
}

// request asks the monitor for attention n times, past the kernel, and prints
// what the hypervisor answered to the last one, and how long all took.
func request(args []string) error {
	fs := flag.NewFlagSet("request", flag.ContinueOnError)
	n := fs.Int("n", 1, "times")
	if err := fs.Parse(args); err != nil {
		return err
	}
	const hvmOp, guestRequest = 34, 24
	call := vmcall
	if vendor() == "AuthenticAMD" {
		call = vmmcall
	}
	var result int64
	begin := time.Now()
	for range *n {
		result = call(hvmOp, guestRequest)
	}
	fmt.Printf("request n=%d result=%d us=%d\n", *n, result, time.Since(begin).Microseconds())
	return nil
}

// runSIDT reads the register of the interrupt table n times.
func runSIDT(args []string) error {
	fs := flag.NewFlagSet("sidt", flag.ContinueOnError)
	n := fs.Int("n", 1, "times")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var idtr [10]byte
	for range *n {
		sidt(&idtr[0])
	}
	fmt.Printf("sidt n=%d pid=%d idtr=%x\n", *n, os.Getpid(), idtr)
	return nil
}

// toggleCPUID forbids and allows itself CPUID, n times in all: each is one write
// of MSR_MISC_FEATURES_ENABLES (0x140) by the kernel, where the processor has it.
// A switch to another process and back in between are two more, so that it is
// real-time; but the kernel lets others run for a twentieth of each second. It prints
// how often it did not run.
func toggleCPUID(args []string) error {
	fs := flag.NewFlagSet("msr", flag.ContinueOnError)
	n := fs.Int("n", 2, "times, an even number")
	if err := fs.Parse(args); err != nil {
		return err
	}
	const archSetCPUID = 0x1012
	runtime.LockOSThread()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 50}, 0); err != nil {
		return fmt.Errorf("real-time: %w", err)
	}
	var before unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &before); err != nil {
		return err
	}
	for i := range *n {
		if _, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, archSetCPUID, uintptr(i%2), 0); errno != 0 {
			return fmt.Errorf("arch_prctl: %w", errno)
		}
	}
	var after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &after); err != nil {
		return err
	}
	fmt.Printf("msr n=%d pid=%d switches=%d\n", *n, os.Getpid(), after.Nvcsw+after.Nivcsw-before.Nvcsw-before.Nivcsw)
	return nil
}

// singleStep debugs a process of its own: it has it execute n instructions, each
// of which ends in a debug exception.
func singleStep(args []string) error {
	fs := flag.NewFlagSet("singlestep", flag.ContinueOnError)
	n := fs.Int("n", 1, "instructions")
	if err := fs.Parse(args); err != nil {
		return err
	}
	runtime.LockOSThread() // ptrace knows threads
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	defer cmd.Process.Kill()
	if err := stopped(pid); err != nil { // by its exec
		return err
	}
	// The first stop is that at the end of exec, without an exception.
	for i := range *n + 1 {
		if err := errors.Join(unix.PtraceSingleStep(pid), stopped(pid)); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	fmt.Printf("singlestep n=%d pid=%d\n", *n, pid)
	return nil
}
