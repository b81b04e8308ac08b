package main

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// function is a function to watch.
type function struct {
	linux.Function
	exits []breakpoint.Exit // by offsets in the file; none if they are not asked for
	why   error             // that there are none
}

// process finds the one that is asked for.
func process(k *linux.Kernel, o options) (linux.Process, error) {
	if o.pid != 0 {
		t, err := k.TaskByPID(int32(o.pid))
		if err != nil {
			return linux.Process{}, err
		}
		return t.Info()
	}
	tasks, err := k.TasksByComm(o.comm)
	if err != nil {
		return linux.Process{}, err
	}
	if len(tasks) > 1 {
		var pids []int32
		for _, t := range tasks {
			pid, err := t.PID()
			if err != nil {
				return linux.Process{}, err
			}
			pids = append(pids, pid)
		}
		return linux.Process{}, fmt.Errorf("%d processes are called %s; take -pid with one of %v", len(pids), o.comm, pids)
	}
	return tasks[0].Info()
}

// mapped finds the file among those that the process has mapped.
func mapped(t linux.Task, name string) (*linux.MappedFile, error) {
	var found *linux.MappedFile
	for f, err := range t.MappedFiles() {
		switch {
		case err != nil:
			return nil, err
		case f.Path == name:
			return f, nil
		case path.Base(f.Path) != name:
		case found != nil:
			return nil, fmt.Errorf("the process has mapped %s and %s; take -file with one of the paths", found.Path, f.Path)
		default:
			found = f
		}
	}
	if found == nil {
		return nil, fmt.Errorf("the process has not mapped a file %s; memmap -pid prints what it has", name)
	}
	return found, nil
}

const (
	// maxFunctions bounds those of the names that are asked for.
	maxFunctions = 1000
	maxCode      = 64 << 10 // bytes of a function
)

// functions finds those that are asked for, and with ret by what they end.
func functions(f *linux.MappedFile, names []string, ret bool) (found []function, err error) {
	missing := slices.Clone(names)
	for fn, err := range f.Functions() {
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, fn.Name) || slices.ContainsFunc(found, func(g function) bool { return g.Offset == fn.Offset }) {
			continue
		}
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == fn.Name })
		one := function{Function: fn}
		if ret {
			one.exits, one.why = exits(f, fn)
		}
		if found = append(found, one); len(found) > maxFunctions {
			return nil, fmt.Errorf("%s has more than %d such functions", f.Path, maxFunctions)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s has no function %s", f.Path, missing[0])
	}
	return found, nil
}

// exits returns by what a function ends.
func exits(f *linux.MappedFile, fn linux.Function) ([]breakpoint.Exit, error) {
	if fn.Size == 0 || fn.Size > maxCode {
		return nil, fmt.Errorf("%w: it has %d bytes", breakpoint.ErrExits, fn.Size)
	}
	code := make([]byte, fn.Size)
	if _, err := f.ReadAt(code, int64(fn.Offset)); err != nil {
		return nil, err
	}
	all, err := breakpoint.Exits(func(vmi.VirtAddr) bool { return false }, breakpoint.Code{Addr: vmi.VirtAddr(fn.Offset), Bytes: code})
	if err == nil && len(all) == 0 {
		err = errors.New("it never returns")
	}
	return all, err
}
