package main

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"
	"unicode/utf8"
)

// chunk is what one read or write of the terminal passed on.
type chunk struct {
	at    time.Time
	pid   int32
	comm  string // printable
	typed bool
	data  []byte
}

// record is the JSON form of a chunk.
type record struct {
	Time time.Time `json:"time"`
	PID  int32     `json:"pid"`
	Comm string    `json:"comm"`
	// Typed tells what was read of the terminal from what was written to it.
	Typed bool `json:"typed"`
	// Text is made safe to show, Data is what it was.
	Text string `json:"text"`
	Data []byte `json:"data"`
}

const (
	// maxLine bounds a line; a longer one is shown in parts.
	maxLine = 4096
	// patience is how long the beginning of a line waits for the rest.
	patience = time.Second
)

// transcript makes lines of chunks, what is typed and what is printed each for
// itself, in the order in which the lines end. Its methods may be called from any
// goroutine.
type transcript struct {
	mu             sync.Mutex
	json           bool
	out            []byte
	typed, printed chunk // lines that have not ended
	chunks         int
	typedBytes     int
	printedBytes   int
}

func (t *transcript) add(c chunk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.chunks++
	if c.typed {
		t.typedBytes += len(c.data)
	} else {
		t.printedBytes += len(c.data)
	}
	if t.json {
		t.record(c)
		return
	}
	line := &t.printed
	if c.typed {
		line = &t.typed
	}
	if line.pid != c.pid {
		t.end(line)
	}
	for len(c.data) > 0 {
		if len(line.data) == 0 {
			*line = chunk{at: c.at, pid: c.pid, comm: c.comm, typed: c.typed, data: line.data}
		}
		n, ends := lineEnd(c.data, c.typed)
		if room := maxLine - len(line.data); n > room {
			n, ends = room, true
		}
		line.data = append(line.data, c.data[:n]...)
		c.data = c.data[n:]
		if ends {
			t.end(line)
		}
	}
}

// lineEnd returns how much of data is up to the end of a line. What is typed ends
// with Enter and with the keys that interrupt, end and suspend.
func lineEnd(data []byte, typed bool) (n int, ends bool) {
	ending := "\n"
	if typed {
		ending = "\n\r\x03\x04\x1a\x1c"
	}
	if i := bytes.IndexAny(data, ending); i >= 0 {
		return i + 1, true
	}
	return len(data), false
}

// end shows a line.
func (t *transcript) end(c *chunk) {
	if len(c.data) == 0 {
		return
	}
	text := c.data
	sign := " < "
	if !c.typed {
		sign = " > "
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	}
	t.out = c.at.AppendFormat(t.out, "15:04:05.000 ")
	t.out = append(t.out, c.comm...)
	t.out = append(t.out, '[')
	t.out = appendInt(t.out, c.pid)
	t.out = append(append(t.out, ']'), sign...)
	t.out = append(appendSafe(t.out, text), '\n')
	c.data = c.data[:0]
}

func (t *transcript) record(c chunk) {
	text, err := json.Marshal(record{Time: c.at.UTC(), PID: c.pid, Comm: c.comm, Typed: c.typed, Text: string(appendSafe(nil, c.data)), Data: c.data})
	if err != nil {
		text = []byte(err.Error())
	}
	t.out = append(append(t.out, text...), '\n')
}

// take returns the text since the last time. Lines that have been waiting for
// their end are shown without it.
func (t *transcript) take(now time.Time) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range []*chunk{&t.printed, &t.typed} {
		if len(line.data) > 0 && now.Sub(line.at) > patience && utf8.Valid(line.data) {
			t.end(line)
		}
	}
	b := t.out
	t.out = nil
	return b
}

// finish ends the lines that have not ended.
func (t *transcript) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end(&t.printed)
	t.end(&t.typed)
}
