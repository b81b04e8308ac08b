package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// cr3switch prints "cr3switch ready pids=A,B" and at the end
// "cr3switch n=N pids=A,B": A has handed the byte to B and got it back N times.
func cr3switch(args []string) error {
	fs := flag.NewFlagSet("cr3switch", flag.ContinueOnError)
	n := fs.Int("n", 1000, "round trips")
	wait := fs.String("wait", "", "before the first, wait for this file, or for a line of input if it is -")
	child := fs.Bool("child", false, "be the second process: echo input to output")
	if err := fs.Parse(args); err != nil {
		return err
	}
	runtime.LockOSThread()
	if *child {
		return echo(0, 1)
	}
	toChild, err := pipe()
	if err != nil {
		return err
	}
	fromChild, err := pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "cr3switch", "-child")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = toChild[0], fromChild[1], os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := errors.Join(toChild[0].Close(), fromChild[1].Close()); err != nil {
		return err
	}
	fmt.Printf("cr3switch ready pids=%d,%d\n", os.Getpid(), cmd.Process.Pid)
	if err := waitFor(*wait); err != nil {
		return err
	}
	out, in := int(toChild[1].Fd()), int(fromChild[0].Fd())
	b := make([]byte, 1)
	for range *n {
		if _, err := unix.Write(out, b); err != nil {
			return err
		}
		if got, err := unix.Read(in, b); err != nil || got != 1 {
			return fmt.Errorf("read: %d, %w", got, errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	fmt.Printf("cr3switch n=%d pids=%d,%d\n", *n, os.Getpid(), cmd.Process.Pid)
	if err := toChild[1].Close(); err != nil {
		return err
	}
	return cmd.Wait()
}

func pipe() ([2]*os.File, error) {
	r, w, err := os.Pipe()
	return [2]*os.File{r, w}, err
}

func echo(in, out int) error {
	b := make([]byte, 1)
	for {
		n, err := unix.Read(in, b)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if _, err := unix.Write(out, b); err != nil {
			return err
		}
	}
}
