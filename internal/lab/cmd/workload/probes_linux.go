package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	debugfs = "/sys/kernel/debug"
	tracefs = debugfs + "/tracing"
)

// holdProbes loads a BPF program and sets two kprobes, one of them disabled.
func holdProbes() (release func(), err error) {
	prog, err := loadBPF("hold_bpf")
	if err != nil {
		return nil, fmt.Errorf("hold BPF program: %w", err)
	}
	write := func(name, text string) error {
		f, err := os.OpenFile(tracefs+"/"+name, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		return errors.Join(err, f.Close())
	}
	release = func() {
		// As far as it came.
		_ = write("events/kprobes/hold_a/enable", "0")
		_ = write("kprobe_events", "-:hold_a")
		_ = write("kprobe_events", "-:hold_b")
		_ = unix.Unmount(debugfs, unix.MNT_DETACH)
		_ = unix.Close(prog)
	}
	err = errors.Join(
		unix.Mount("debugfs", debugfs, "debugfs", 0, ""),
		write("kprobe_events", "p:hold_a do_sys_openat2\n"), write("kprobe_events", "p:hold_b ksys_read+0\n"),
		write("events/kprobes/hold_a/enable", "1"),
	)
	if err != nil {
		release()
		return nil, fmt.Errorf("hold kprobes: %w", err)
	}
	return release, nil
}
