package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// Hypercalls of Intel's and of AMD's processors. The kernel is not asked.
func vmcall(op, arg uint64) int64
func vmmcall(op, arg uint64) int64

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
// what the hypervisor answered to the last one.
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
	for range *n {
		result = call(hvmOp, guestRequest)
	}
	fmt.Printf("request n=%d result=%d\n", *n, result)
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
