package agent

import (
	"errors"
	"io"
	"sync"
)

// inputRoom bounds the input that a job has not read yet, in bytes.
const inputRoom = 1 << 20

var errInput = errors.New("agent: the job does not read its input")

// input takes a job's input from the control port, which must never wait for
// the job, and keeps it until the job takes it, which may not even have
// started.
type input struct {
	mu     sync.Mutex
	change sync.Cond
	buf    []byte
	closed bool
}

func newInput() *input {
	in := &input{}
	in.change.L = &in.mu
	return in
}

func (in *input) add(data []byte) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil
	}
	if len(in.buf)+len(data) > inputRoom {
		return errInput
	}
	in.buf = append(in.buf, data...)
	in.change.Signal()
	return nil
}

// close ends the input behind what has been added.
func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.change.Signal()
}

// pump writes the input to w until it is closed or w takes no more.
func (in *input) pump(w io.Writer) {
	for {
		in.mu.Lock()
		for len(in.buf) == 0 && !in.closed {
			in.change.Wait()
		}
		data := in.buf
		in.buf = nil
		in.mu.Unlock()
		if len(data) == 0 {
			return
		}
		if _, err := w.Write(data); err != nil {
			return // the job has ended or closed its input, as it may
		}
	}
}
