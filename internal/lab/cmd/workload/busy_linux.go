package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// busy prints "busy ready pid=P" and, after SIGTERM or SIGINT, one line
// "busy kind=K n=N pid=P" for each kind and "busy end pid=P rounds=R". With
// -counter it prints "busy counter=0xA pid=P" at first, where it keeps the number
// of rounds whose calls are made.
func busy(args []string) error {
	fs := flag.NewFlagSet("busy", flag.ContinueOnError)
	names := fs.String("kinds", "getuid,newfstatat,lseek,write", "the calls of a round, of "+kindNames())
	spin := fs.Int("spin", 2000, "loop iterations of plain CPU work in a round")
	pause := fs.Duration("pause", 0, "sleep after each round")
	nice := fs.Int("nice", 0, "how far to stand back for other processes, up to 19")
	visible := fs.Bool("counter", false, "count in memory that does not move, for who can read it")
	if err := fs.Parse(args); err != nil {
		return err
	}
	counter := make([]byte, 8)
	if *visible {
		var err error
		if counter, err = pinnedPage(); err != nil {
			return err
		}
		fmt.Printf("busy counter=%p pid=%d\n", &counter[0], os.Getpid())
	}
	list := strings.Split(*names, ",")
	loop := make([]func() error, len(list))
	for i, name := range list {
		k, err := findKind(name)
		if err != nil {
			return err
		}
		if loop[i], err = k(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var stop atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	go func() { <-signals; stop.Store(true) }()
	runtime.LockOSThread()
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, *nice); err != nil { // of this thread
		return fmt.Errorf("nice: %w", err)
	}
	fmt.Printf("busy ready pid=%d\n", os.Getpid())
	rounds := 0
	sum := uint64(1)
	for !stop.Load() {
		for i, call := range loop {
			if err := call(); err != nil {
				return fmt.Errorf("%s: %w", list[i], err)
			}
		}
		store(&counter[0], uint64(rounds)+1)
		for range *spin {
			sum = sum*6364136223846793005 + 1442695040888963407
		}
		rounds++
		if *pause > 0 {
			ts := unix.NsecToTimespec(pause.Nanoseconds())
			if err := unix.Nanosleep(&ts, nil); err != nil && err != unix.EINTR {
				return fmt.Errorf("pause: %w", err)
			}
		}
	}
	for _, name := range list {
		fmt.Printf("busy kind=%s n=%d pid=%d\n", name, rounds, os.Getpid())
	}
	fmt.Printf("busy end pid=%d rounds=%d sum=%x\n", os.Getpid(), rounds, sum)
	return nil
}
