package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/govmi/govmi/internal/lab"
	"github.com/govmi/govmi/internal/lab/cache"
)

// results are those of a machine, in the cache.
func results(machine string) (*lab.Results, error) {
	dir, err := cache.Dir()
	if err != nil {
		return nil, err
	}
	return &lab.Results{Dir: filepath.Join(dir, "passed"), Machine: machine}, nil
}

// lateMachine boots for the first job.
type lateMachine struct {
	machine *lab.Machine
	digest  string
	report  string // a file with the names of what was not run

	start   func() (*lab.Session, error) // once
	mu      sync.Mutex
	session *lab.Session
}

// late makes a machine that boots when it has to. ctx is that of the whole command, to which the start belongs.
func (b *bootFlags) late(ctx context.Context) (_ *lateMachine, err error) {
	m, err := b.make(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	l := &lateMachine{machine: m, start: sync.OnceValues(func() (*lab.Session, error) { return m.Start(ctx) })}
	if l.digest, err = m.Digest(ctx); err != nil {
		return nil, err
	}
	report, err := os.CreateTemp("", "govmi-lab-report-")
	if err != nil {
		return nil, err
	}
	l.report = report.Name()
	return l, report.Close()
}

func (l *lateMachine) Run(ctx context.Context, job *lab.Job) (*lab.Result, error) {
	s, err := l.start()
	if err != nil {
		return &lab.Result{Exit: -1}, err
	}
	l.mu.Lock()
	l.session = s
	l.mu.Unlock()
	return s.Run(ctx, job)
}

// Close ends the machine, and says what was not run.
func (l *lateMachine) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	told, err := os.ReadFile(l.report)
	if names := strings.Fields(string(told)); len(names) > 0 {
		fmt.Printf("lab: passed in such a machine before, and not run again: %s\n", strings.Join(names, " "))
	}
	errs := []error{err, os.Remove(l.report), l.machine.Close()}
	if l.session != nil {
		errs = append(errs, l.session.Close())
	}
	return errors.Join(errs...)
}

// runCached runs a job unless it has succeeded in such a machine before.
func (b *bootFlags) runCached(ctx context.Context, job *lab.Job) (_ *lab.Result, err error) {
	if job.OutDir != "" {
		return nil, errors.New("-cached keeps no files: leave out -out")
	}
	m, err := b.late(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	rs, err := results(m.digest)
	if err != nil {
		return nil, err
	}
	res, _, err := rs.Run(ctx, m, job)
	return res, err
}
