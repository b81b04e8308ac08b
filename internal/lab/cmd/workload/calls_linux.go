package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// migratePeriod is after how many calls a migrating thread changes its CPU.
const migratePeriod = 50

// calls prints "calls ready pid=P tids=T,..." before waiting and, after the
// last call, "calls kind=K n=N pid=P"; with -delay also "calls us=T", the time
// of the calls in microseconds. The threads live on until then, so that
// their ids stay theirs.
func calls(args []string) error {
	fs := flag.NewFlagSet("calls", flag.ContinueOnError)
	name := fs.String("kind", "getppid", "the call: "+kindNames())
	n := fs.Int("n", 20000, "calls in all")
	threads := fs.Int("threads", 1, "threads that share the calls")
	migrate := fs.Bool("migrate", false, "move between the CPUs all the time")
	cpu := fs.Int("cpu", -1, "stay on this CPU")
	wait := fs.String("wait", "", "before the first call, wait for this file, or for a line of input if it is -")
	delay := fs.Duration("delay", 0, "then sleep for this `time`")
	if err := fs.Parse(args); err != nil {
		return err
	}
	k, err := findKind(*name)
	if err != nil {
		return err
	}
	if *n < 0 || *threads < 1 {
		return errors.New("calls: -n and -threads must be positive")
	}
	var cpus []int // to run on in turn, if it is not the kernel's choice
	if *cpu >= 0 {
		cpus = []int{*cpu}
	}
	if *migrate {
		if cpus, err = allowedCPUs(); err != nil {
			return err
		}
		if len(cpus) < 2 || *cpu >= 0 {
			return errors.New("calls: -migrate needs a second CPU, and no -cpu")
		}
	}
	var (
		ready, finished sync.WaitGroup
		start           = make(chan struct{})
		end             = make(chan struct{})
		tids            = make([]int, *threads)
		errs            = make([]error, *threads)
	)
	ready.Add(*threads)
	finished.Add(*threads)
	for i := range *threads {
		share := *n / *threads
		if i < *n%*threads {
			share++
		}
		go func() {
			runtime.LockOSThread()
			tids[i] = unix.Gettid()
			call, err := k()
			ready.Done()
			<-start
			if err == nil {
				err = repeat(call, share, cpus, i)
			}
			errs[i] = err
			finished.Done()
			<-end
		}()
	}
	ready.Wait()
	line := fmt.Sprintf("calls ready pid=%d tids=", os.Getpid())
	for i, tid := range tids {
		if i > 0 {
			line += ","
		}
		line += fmt.Sprint(tid)
	}
	fmt.Println(line)
	if err := waitFor(*wait); err != nil {
		return err
	}
	if err := rest(*delay); err != nil {
		return err
	}
	begin := time.Now()
	close(start)
	finished.Wait()
	took := time.Since(begin)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("calls kind=%s n=%d pid=%d\n", *name, *n, os.Getpid())
	if *delay > 0 {
		fmt.Printf("calls us=%d\n", took.Microseconds())
	}
	close(end)
	return nil
}

func repeat(call func() error, n int, cpus []int, offset int) error {
	for i := range n {
		if len(cpus) > 0 && i%migratePeriod == 0 {
			var set unix.CPUSet
			set.Set(cpus[(i/migratePeriod+offset)%len(cpus)])
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				return fmt.Errorf("change CPU: %w", err)
			}
		}
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("CPUs: %w", err)
	}
	var cpus []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// waitFor polls with access and nanosleep, which no kind is made of.
func waitFor(file string) error {
	switch file {
	case "":
		return nil
	case "-":
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		return err
	}
	for {
		err := unix.Access(file, unix.F_OK)
		if err == nil {
			return nil
		}
		if err != unix.ENOENT {
			return fmt.Errorf("wait for %s: %w", file, err)
		}
		if err := rest(20 * time.Millisecond); err != nil {
			return err
		}
	}
}

// rest sleeps by nanosleep, which no kind is made of.
func rest(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	pause := unix.NsecToTimespec(d.Nanoseconds())
	if err := unix.Nanosleep(&pause, nil); err != nil && err != unix.EINTR {
		return fmt.Errorf("nanosleep: %w", err)
	}
	return nil
}
