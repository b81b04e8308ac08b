package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"
)

// rounds makes the same calls again and again from one thread, each round when it
// is told to: what differs between rounds is not the process, whose page tables and
// stack lie where they lie. It prints "rounds ready pid=P" and after round I, from 0,
// "round I us=T", the microseconds of its calls.
func rounds(args []string) error {
	fs := flag.NewFlagSet("rounds", flag.ContinueOnError)
	name := fs.String("kind", "getppid", "the call: "+kindNames())
	n := fs.Int("n", 20000, "calls in a round")
	count := fs.Int("rounds", 1, "rounds")
	wait := fs.String("wait", "", "before round I, wait for this file with .I behind its name")
	delay := fs.Duration("delay", 0, "then sleep for this `time`")
	if err := fs.Parse(args); err != nil {
		return err
	}
	k, err := findKind(*name)
	if err != nil {
		return err
	}
	if *n < 0 || *count < 0 || *wait == "" {
		return errors.New("rounds: -n and -rounds must not be negative, and -wait is needed")
	}
	runtime.LockOSThread()
	call, err := k()
	if err != nil {
		return err
	}
	fmt.Printf("rounds ready pid=%d\n", os.Getpid())
	for i := range *count {
		if err := waitFor(fmt.Sprintf("%s.%d", *wait, i)); err != nil {
			return err
		}
		if err := rest(*delay); err != nil {
			return err
		}
		begin := time.Now()
		if err := repeat(call, *n, nil, 0); err != nil {
			return err
		}
		fmt.Printf("round %d us=%d\n", i, time.Since(begin).Microseconds())
	}
	return nil
}
