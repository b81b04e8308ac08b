package linux

import (
	"encoding/binary"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/govmi/govmi/vmi"
)

// LogRecord is a message of the kernel's log.
type LogRecord struct {
	Seq uint64
	// Time is that since the boot.
	Time time.Duration
	// Level is from 0, emergency, to 7, debugging; Facility is that of
	// syslog(3), 0 for the kernel's own.
	Level, Facility uint8
	Text            string
	// Subsystem and Device name the device that it is about, if any.
	Subsystem, Device string `json:",omitempty"`
}

type logFields struct {
	CountBits Field `btf:"prb_desc_ring.count_bits"`
	Descs     Field `btf:"prb_desc_ring.descs"`
	Infos     Field `btf:"prb_desc_ring.infos"`
	HeadID    Field `btf:"prb_desc_ring.head_id.counter"`
	TailID    Field `btf:"prb_desc_ring.tail_id.counter"`
	DescRing  Field `btf:"printk_ringbuffer.desc_ring"`
	TextRing  Field `btf:"printk_ringbuffer.text_data_ring"`
	SizeBits  Field `btf:"prb_data_ring.size_bits"`
	Data      Field `btf:"prb_data_ring.data"`
	State     Field `btf:"prb_desc.state_var.counter"`
	Begin     Field `btf:"prb_desc.text_blk_lpos.begin"`
	Next      Field `btf:"prb_desc.text_blk_lpos.next"`
	Seq       Field `btf:"printk_info.seq"`
	Time      Field `btf:"printk_info.ts_nsec"`
	TextLen   Field `btf:"printk_info.text_len"`
	Facility  Field `btf:"printk_info.facility"`
	Level     Field `btf:"printk_info.level"`
	Subsystem Field `btf:"printk_info.dev_info.subsystem"`
	Device    Field `btf:"printk_info.dev_info.device"`
}

const (
	// The kernel's own bounds (CONFIG_LOG_BUF_SHIFT, 32 bytes a message).
	maxLogBits     = 25
	maxLogDescBits = 20
	maxLogText     = 1 << 16
)

// logRing is the kernel's ring of messages (kernel/printk/printk_ringbuffer.c):
// descriptors, with a state and the place of the text, beside records about the
// messages, and the texts in a ring of their own.
type logRing struct {
	f                  *logFields
	r                  *reader
	descs, infos, data vmi.VirtAddr
	descSize, infoSize vmi.VirtAddr
	count, size        uint64
	head, tail         uint64 // ids
}

func (k *Kernel) logRing() (*logRing, error) {
	f, err := k.fields.log.of(k)
	if err != nil {
		return nil, err
	}
	prb, err := k.syms.Lookup("prb")
	if err != nil {
		return nil, err
	}
	r := &reader{s: k.as}
	rb := r.ptr(Field{Path: "prb", Size: 8}, prb)
	ring, text := r.in(f.DescRing, rb), r.in(f.TextRing, rb)
	l := &logRing{
		f: f, r: r,
		descs: r.ptr(f.Descs, ring), infos: r.ptr(f.Infos, ring), data: r.ptr(f.Data, text),
		head: r.uint(f.HeadID, ring), tail: r.uint(f.TailID, ring),
	}
	bits, sizeBits := r.uint(f.CountBits, ring), r.uint(f.SizeBits, text)
	if r.err != nil {
		return nil, r.err
	}
	l.count, l.size = 1<<(bits&63), 1<<(sizeBits&63)
	if bits > maxLogDescBits || sizeBits > maxLogBits || l.head-l.tail >= l.count {
		return nil, fmt.Errorf("%w: kernel's log of 2^%d messages, %d in use", ErrCorrupt, bits, l.head-l.tail+1)
	}
	for name, to := range map[string]*vmi.VirtAddr{"prb_desc": &l.descSize, "printk_info": &l.infoSize} {
		size, err := k.sizeof(name)
		if err != nil {
			return nil, err
		}
		*to = vmi.VirtAddr(size)
	}
	return l, nil
}

// Log yields the messages in the kernel's log, the oldest first. While the guest
// runs, messages that it overwrites meanwhile are left out.
func (k *Kernel) Log() iter.Seq2[LogRecord, error] {
	return func(yield func(LogRecord, error) bool) {
		l, err := k.logRing()
		if err != nil {
			yield(LogRecord{}, fmt.Errorf("kernel's log: %w", err))
			return
		}
		for id := l.tail; id != l.head+1; id++ {
			rec, ok := l.record(id)
			if l.r.err != nil {
				yield(LogRecord{}, fmt.Errorf("kernel's log: %w", l.r.err))
				return
			}
			if ok && !yield(rec, nil) {
				return
			}
		}
	}
}

// record reads the message of an id, if it is complete.
func (l *logRing) record(id uint64) (LogRecord, bool) {
	const (
		stateShift           = 62
		idMask               = 1<<stateShift - 1
		committed, finalized = 1, 2
		emptyLine            = 3 // in Begin and Next; other odd numbers are lost texts
	)
	r, f := l.r, l.f
	at := l.descs + vmi.VirtAddr(id%l.count)*l.descSize
	info := l.infos + vmi.VirtAddr(id%l.count)*l.infoSize
	state := r.uint(f.State, at)
	if s := state >> stateShift; s != committed && s != finalized || (state^id)&idMask != 0 {
		return LogRecord{}, false
	}
	rec := LogRecord{
		Seq: r.uint(f.Seq, info), Time: time.Duration(r.uint(f.Time, info)),
		Level: uint8(r.uint(f.Level, info)), Facility: uint8(r.uint(f.Facility, info)),
		Subsystem: r.name(f.Subsystem, info), Device: r.name(f.Device, info),
	}
	begin, next := r.uint(f.Begin, at), r.uint(f.Next, at)
	if begin&1 != 0 || next&1 != 0 || begin == next {
		return rec, begin == emptyLine && next == emptyLine
	}
	start, end := begin%l.size, next%l.size
	if begin/l.size != next/l.size && end != 0 {
		start = 0 // a text that does not fit before the end is at the beginning
	}
	if end == 0 {
		end = l.size
	}
	const header = 8 // the id
	if start+header > end {
		return rec, false
	}
	n := min(r.uint(f.TextLen, info), end-start-header, maxLogText)
	text := make([]byte, n+header)
	if r.err == nil {
		if _, err := r.s.Read(l.data+vmi.VirtAddr(start), text); err != nil {
			r.fail(err)
		}
	}
	if binary.LittleEndian.Uint64(text) != id && r.err == nil {
		return rec, false // overwritten
	}
	rec.Text = strings.ToValidUTF8(string(text[header:]), "\ufffd")
	return rec, true
}
