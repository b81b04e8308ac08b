package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// memory prints "memory ready pid=P addr=0xA" and, after the accesses to the 8
// bytes there and to others of the same page, "memory writes=N reads=N beside=N
// pid=P". The page does not move, and is not given back before -hold lets it end.
func memory(args []string) error {
	fs := flag.NewFlagSet("memory", flag.ContinueOnError)
	writes := fs.Int("writes", 100, "how often to write it")
	reads := fs.Int("reads", 0, "how often to read it")
	beside := fs.Int("beside", 0, "how often to write what lies beside it")
	wait := fs.String("wait", "", "before the first access, wait for this file")
	hold := fs.String("hold", "", "at the end, wait for this file")
	if err := fs.Parse(args); err != nil {
		return err
	}
	page, err := pinnedPage()
	if err != nil {
		return err
	}
	const offset, other = 0x200, 0x208
	runtime.LockOSThread()
	fmt.Printf("memory ready pid=%d addr=%p\n", os.Getpid(), &page[offset])
	if err := waitFor(*wait); err != nil {
		return err
	}
	for i := range max(*writes, *reads, *beside) {
		if i < *writes {
			store(&page[offset], uint64(i)+1)
		}
		if i < *reads {
			if v := load(&page[offset]); v != uint64(min(i+1, *writes)) {
				return fmt.Errorf("read %d after %d writes", v, i+1)
			}
		}
		if i < *beside {
			store(&page[other], uint64(i))
		}
	}
	fmt.Printf("memory writes=%d reads=%d beside=%d pid=%d\n", *writes, *reads, *beside, os.Getpid())
	return errors.Join(waitFor(*hold), unix.Munmap(page))
}

// pinnedPage is a page of memory that stays where it is.
func pinnedPage() ([]byte, error) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	return page, unix.Mlock(page)
}
