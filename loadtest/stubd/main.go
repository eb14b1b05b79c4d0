// Command stubd runs the service of package stub until it is told to stop.
//
//	stubd -listen 127.0.0.1:0
//
// It prints the address it listens on, alone on the first line of standard output. The
// exit status is 0 after SIGTERM or SIGINT, 1 when it could not serve, 64 for wrong flags.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluice-gateway/sluice/loadtest/stub"
)

func main() { os.Exit(status(os.Args[1:])) }

func status(args []string) int {
	flags := flag.NewFlagSet("stubd", flag.ContinueOnError)
	address := flags.String("listen", "127.0.0.1:0", "`address` to listen on")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "stubd: want -listen ADDRESS and nothing else, got", args)
		return 64
	}
	l, err := net.Listen("tcp", *address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stubd:", err)
		return 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	service := stub.New()
	ended := make(chan error, 1)
	go func() { ended <- service.Serve(l) }()
	fmt.Println(l.Addr())
	select {
	case err = <-ended:
	case <-stop:
		return 0 // what is under way breaks off: a load test stops its clients first
	}
	fmt.Fprintln(os.Stderr, "stubd:", err)
	return 1
}
