package xen

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// StartTime returns when the toolstack built the domain, to a hundredth of a
// second, as libxl notes it in XenStore. With the UUID it tells a domain from one
// that has taken its number since, and from the same guest before a reboot. The
// error matches [ErrNotFound] if the toolstack has noted nothing.
func (d *Domain) StartTime() (time.Time, error) {
	const op = "start time"
	store, err := d.hyp.xenStore()
	if err != nil {
		return time.Time{}, err
	}
	defer store.Close()
	path, err := store.Read(fmt.Sprintf("/local/domain/%d/vm", d.id))
	if err != nil {
		return time.Time{}, d.fail(op, err, "")
	}
	text, err := store.Read(path + "/start_time")
	if err != nil {
		return time.Time{}, d.fail(op, err, "")
	}
	t, ok := parseStart(text)
	if !ok {
		return time.Time{}, fault(op, d.id, ErrNotFound, fmt.Sprintf("XenStore has %.32q, which is no time", text))
	}
	return t, nil
}

// parseStart reads seconds since 1970 with hundredths, which libxl writes from
// 7.05 s as "7.05".
func parseStart(text string) (time.Time, bool) {
	seconds, rest, _ := strings.Cut(text, ".")
	s, serr := strconv.ParseUint(seconds, 10, 40)
	hundredths, herr := strconv.ParseUint(rest, 10, 8)
	if serr != nil || herr != nil || hundredths > 99 {
		return time.Time{}, false
	}
	return time.Unix(int64(s), int64(hundredths)*int64(10*time.Millisecond)), true
}
