package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// int3 debugs a process of its own: it puts a breakpoint where the process
// begins and has it run into that n times. Each time the process must stop by
// SIGTRAP just behind the breakpoint. At the end it prints "int3 n=N pid=P",
// with the process's pid.
func int3(args []string) error {
	fs := flag.NewFlagSet("int3", flag.ContinueOnError)
	n := fs.Int("n", 100, "hits of the breakpoint")
	wait := fs.String("wait", "", "before the first, wait for this file, or for a line of input if it is -")
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
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	entry := regs.Rip
	if _, err := unix.PtracePokeText(pid, uintptr(entry), []byte{0xcc}); err != nil {
		return err
	}
	fmt.Printf("int3 ready pid=%d\n", pid)
	if err := waitFor(*wait); err != nil {
		return err
	}
	for i := range *n {
		regs.Rip = entry
		if err := errors.Join(unix.PtraceSetRegs(pid, &regs), unix.PtraceCont(pid, 0), stopped(pid)); err != nil {
			return fmt.Errorf("hit %d: %w", i, err)
		}
		if err := unix.PtraceGetRegs(pid, &regs); err != nil {
			return err
		}
		if regs.Rip != entry+1 {
			return fmt.Errorf("hit %d: stopped at %#x, the breakpoint is at %#x", i, regs.Rip, entry)
		}
	}
	fmt.Printf("int3 n=%d pid=%d\n", *n, pid)
	return nil
}

// stopped waits until the process has stopped by SIGTRAP.
func stopped(pid int) error {
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		return os.NewSyscallError("wait4", err)
	}
	if !ws.Stopped() || ws.StopSignal() != unix.SIGTRAP {
		return fmt.Errorf("wait status %#x, not stopped by SIGTRAP", uint32(ws))
	}
	return nil
}
