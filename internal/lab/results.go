package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// MachineVar has the runner of tests take what has passed before, in the machine with this digest, from the cache. ReportVar names a file to which it
// adds a line for each test binary that it did not run.
const (
	MachineVar = "GOVMI_LAB_MACHINE"
	ReportVar  = "GOVMI_LAB_REPORT"
)

// Results keeps what programs said that succeeded, as the go command does of tests: of the same program with the same arguments, environment
// and files, in the same machine.
type Results struct {
	Dir     string // made when it is needed
	Machine string // its digest
}

// Test is [RunTest], unless the binary has passed before: then it says the same again, and cached is true.
func (rs *Results) Test(ctx context.Context, r Runner, t *TestBinary) (status int, cached bool, err error) {
	job, err := t.job()
	if err != nil {
		return -1, false, err
	}
	return rs.once(job, t.Stdout, func(out io.Writer) (int, error) {
		said := *t
		said.Stdout = io.MultiWriter(t.Stdout, out)
		return RunTest(ctx, r, &said)
	})
}

// Run runs a job, unless that has ended with status 0 before: then it says the same again. What a job leaves in a folder is not kept.
func (rs *Results) Run(ctx context.Context, r Runner, job *Job) (res *Result, cached bool, err error) {
	res = &Result{Exit: -1}
	status, cached, err := rs.once(job, job.Stdout, func(out io.Writer) (int, error) {
		var err error
		if res, err = r.Run(ctx, job); err != nil || res.Signal != 0 {
			return -1, err
		}
		_, err = out.Write(res.Stdout)
		return res.Exit, err
	})
	if cached {
		res.Exit = status
	}
	return res, cached, err
}

// once calls run, which writes what is to be said again, or says it to out.
func (rs *Results) once(job *Job, out io.Writer, run func(out io.Writer) (int, error)) (status int, cached bool, err error) {
	key, err := rs.key(job)
	if err != nil {
		return -1, false, err
	}
	path := filepath.Join(rs.Dir, key)
	switch said, err := os.ReadFile(path); {
	case err == nil:
		_, err = out.Write(said)
		return 0, true, err
	case !errors.Is(err, fs.ErrNotExist):
		return -1, false, err
	}
	var said bytes.Buffer
	status, err = run(&said)
	if status == 0 && err == nil {
		err = rs.keep(path, said.Bytes())
	}
	return status, false, err
}

func (rs *Results) keep(path string, out []byte) error {
	if err := os.MkdirAll(rs.Dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(rs.Dir, "*.tmp")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "lab: ran and passed in such a machine on %s:\n%s", time.Now().UTC().Format(time.DateTime), out)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// key names a job by all that it depends on.
func (rs *Results) key(job *Job) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q\n", rs.Machine, job.Argv, job.Env, job.Dir)
	for _, f := range job.Files {
		fmt.Fprintf(h, "%q %v %q\n", f.Name, f.Mode, f.Data)
		if f.Source == "" {
			continue
		}
		if err := addDigest(h, f.Source); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
