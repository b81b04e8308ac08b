package agent

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/govmi/govmi/internal/lab/wire"
)

// The stream follows the captured files instead of standing between the job
// and them: a job never waits for the serial port.
const (
	streamPeriod = 100 * time.Millisecond
	streamChunk  = 8 << 10 // bytes of one frame
	// streamTail is how much is still sent after the job's end; the rest is in
	// the result.
	streamTail = 64 << 10
)

type stream struct {
	send  func(wire.Message)
	id    uint64
	files []*os.File // written by the job, fd 1 and 2
	off   []int64
	quit  chan struct{}
	wg    sync.WaitGroup
}

func startStream(send func(wire.Message), id uint64, files []*os.File) *stream {
	s := &stream{send: send, id: id, files: files, off: make([]int64, len(files)), quit: make(chan struct{})}
	s.wg.Go(func() {
		tick := time.NewTicker(streamPeriod)
		defer tick.Stop()
		buf := make([]byte, streamChunk)
		for {
			select {
			case <-s.quit:
				return
			case <-tick.C:
				for i := range s.files {
					s.next(i, buf)
				}
			}
		}
	})
	return s
}

// next sends one chunk at most and reports whether there may be more.
func (s *stream) next(i int, buf []byte) bool {
	n, err := s.files[i].ReadAt(buf, s.off[i])
	if n > 0 {
		s.send(&wire.Out{ID: s.id, FD: i + 1, Data: buf[:n]})
		s.off[i] += int64(n)
	}
	return err == nil && n > 0
}

// stop sends the rest, up to a bound, and returns how many bytes were not sent.
func (s *stream) stop() int64 {
	close(s.quit)
	s.wg.Wait()
	var dropped int64
	buf := make([]byte, streamChunk)
	for i, f := range s.files {
		for sent := 0; sent < streamTail && s.next(i, buf); sent += len(buf) {
		}
		if end, err := f.Seek(0, io.SeekEnd); err == nil {
			dropped += end - s.off[i]
		}
	}
	return dropped
}
