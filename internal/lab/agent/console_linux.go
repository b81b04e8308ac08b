package agent

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	consolePeriod = 200 * time.Millisecond
	consoleTail   = 8 << 10
)

var panicText = []byte("Kernel panic - not syncing")

// consoleWatch looks for kernel panics in the guests' console logs.
type consoleWatch struct {
	dir    string
	report func(domain, tail string)
	logs   map[string]*consoleLog
}

type consoleLog struct {
	file     os.FileInfo
	off      int64
	tail     []byte
	reported bool
}

func newConsoleWatch(dir string, report func(domain, tail string)) *consoleWatch {
	return &consoleWatch{dir: dir, report: report, logs: map[string]*consoleLog{}}
}

func (w *consoleWatch) run(ctx context.Context) {
	tick := time.NewTicker(consolePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.scan()
		}
	}
}

func (w *consoleWatch) scan() {
	names, err := filepath.Glob(filepath.Join(w.dir, "guest-*.log"))
	if err != nil {
		return // the pattern is constant and good
	}
	for _, name := range names {
		log := w.logs[name]
		if log == nil {
			log = &consoleLog{}
			w.logs[name] = log
		}
		if log.read(name) {
			domain := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "guest-"), ".log")
			w.report(domain, string(log.tail))
		}
	}
}

// read takes what is new and reports whether a panic has come up, once.
func (l *consoleLog) read(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false // removed meanwhile
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	if l.file != nil && (!os.SameFile(fi, l.file) || fi.Size() < l.off) {
		*l = consoleLog{} // a new guest of the same name
	}
	l.file = fi
	buf := make([]byte, consoleTail)
	found := false
	for {
		n, err := f.ReadAt(buf, l.off)
		l.off += int64(n)
		l.tail = append(l.tail, buf[:n]...)
		if bytes.Contains(l.tail, panicText) {
			found = true
		}
		if over := len(l.tail) - consoleTail; over > 0 {
			l.tail = append(l.tail[:0], l.tail[over:]...)
		}
		if err == io.EOF || n == 0 {
			break
		}
	}
	if !found || l.reported {
		return false
	}
	l.reported = true
	return true
}
