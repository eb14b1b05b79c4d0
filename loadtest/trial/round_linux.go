package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

// stage is the running parts of a trial and where they run.
type stage struct {
	o        *Options
	report   *Report
	service  *part
	relay    *part
	gateway  *part
	subject  []int // CPUs of relay and gateway; nil where nothing is pinned
	backdrop []int // of the service
	loading  []int // of the generator
	shared   bool  // the generator and the service share a CPU
	shots    []shot
	floor    []shot // the same requests as the service itself answers them
	order    []uint16
	rate     float64
	rounds   []round
	direct   float64 // requests per second without anything between
}

// round is what one round measured.
type round struct {
	relayMicros, gatewayMicros float64 // CPU time per request
	relayRate, gatewayRate     float64 // requests per second
	gatewayShare, loadShare    float64 // of their CPUs, at capacity
	otherShare                 float64 // of the gateway's CPU, taken by anything else
	memory                     int64   // bytes
	closed, open               *outcome
}

// conduct starts the parts, measures, and writes what came out into r.
func conduct(ctx context.Context, o *Options, requests []Request, r *Report) error {
	s := &stage{o: o, report: r, order: orderOf(requests)}
	s.shots = newShots(requests, o.Profile.Service.Status)
	s.floor = slices.Clone(s.shots)
	for i := range s.floor {
		s.floor[i].status = o.Profile.Service.Status
	}
	if err := s.place(); err != nil {
		return err
	}
	defer func() {
		for _, p := range []*part{s.gateway, s.relay, s.service} {
			p.stop()
		}
	}()
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.measure(ctx); err != nil {
		return errors.Join(err, s.alive())
	}
	s.summarise()
	return nil
}

// place chooses the CPUs: the last for what is measured, the others for the rest.
func (s *stage) place() error {
	cpus, err := machine.AllowedCPUs()
	if err != nil {
		return err
	}
	n := len(cpus)
	if n < 2 {
		s.shared = true
		s.report.warn("there is one CPU only: the gateway shares it with the generator and the service, so CPU times are less certain and latencies are not the gateway's alone")
		return nil
	}
	s.subject, s.backdrop, s.loading = cpus[n-1:], cpus[:1], cpus[:1]
	if s.shared = n == 2; !s.shared {
		s.loading = cpus[1 : n-1]
	}
	s.report.fact("pinning", fmt.Sprintf("gateway and relay on CPU %d, service on CPU %d, generator on CPU %s", s.subject[0], s.backdrop[0], joinInts(s.loading)))
	return nil
}

func joinInts(list []int) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ",")
}

// start starts the parts and sends every request once before any load.
func (s *stage) start(ctx context.Context) error {
	with := func(args ...string) []string { return slices.Concat(s.o.Command, args) }
	v := &s.o.Profile.Service
	var err error
	s.service, err = startPart("service", with(PartService, strconv.Itoa(v.BodyBytes), time.Duration(v.Latency).String(), strconv.Itoa(v.Status)), s.backdrop)
	if err != nil {
		return err
	}
	if s.relay, err = startPart("relay", with(PartRelay, s.service.address), s.subject); err != nil {
		return err
	}
	if s.gateway, err = startPart("gateway", append(with(PartGateway, s.service.address), s.o.Gateway...), s.subject); err != nil {
		return err
	}
	if err := try(ctx, s.relay.address, s.floor); err != nil {
		return fmt.Errorf("through the relay: %w", err)
	}
	if err := try(ctx, s.gateway.address, s.shots); err != nil {
		if _, ok := errors.AsType[*wrongAnswer](err); ok {
			return err
		}
		return errors.Join(err, s.alive())
	}
	if varying := len(s.shots) - countSteady(s.shots); varying > 0 {
		s.report.note("bodies of %s differ from answer to answer and are not compared", plural(varying, "request"))
	}
	return nil
}

func countSteady(shots []shot) int {
	n := 0
	for i := range shots {
		if shots[i].steady {
			n++
		}
	}
	return n
}

func (s *stage) alive() error {
	return errors.Join(s.service.alive(), s.relay.alive(), s.gateway.alive())
}

// measure finds the capacity and then does the rounds: relay, gateway, gateway, relay
// and so on, so that a drift of the machine meets both alike.
func (s *stage) measure(ctx context.Context) error {
	direct, err := s.closed(ctx, s.service, s.floor)
	if err != nil {
		return fmt.Errorf("without the gateway: %w", err)
	}
	s.direct = direct.out.perSecond()
	s.tell("without the gateway: %.0f requests/s", s.direct)
	s.rate = s.o.Profile.Rate.PerSecond
	if p := s.o.Profile.Rate.Percent; p > 0 {
		c, err := s.closed(ctx, s.gateway, s.shots)
		if err != nil {
			return fmt.Errorf("finding the capacity: %w", err)
		}
		s.rate = max(1, c.out.perSecond()*p/100)
		s.tell("capacity: %.0f requests/s; latency will be measured at %.0f", c.out.perSecond(), s.rate)
	}
	for i := range s.o.Profile.Rounds {
		r, err := s.round(ctx, i)
		if err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		s.rounds = append(s.rounds, *r)
		s.tell("round %d/%d: relay %.2f, gateway %.2f us of CPU a request; %.0f requests/s; p99 %s at %.0f/s",
			i+1, s.o.Profile.Rounds, r.relayMicros, r.gatewayMicros, r.gatewayRate, shown(r.open.latency.Quantile(0.99)), s.rate)
	}
	return nil
}

func (s *stage) tell(format string, args ...any) {
	if s.o.Progress != nil {
		_, _ = fmt.Fprintf(s.o.Progress, format+"\n", args...) // only for who watches
	}
}

func (s *stage) round(ctx context.Context, i int) (*round, error) {
	var r round
	relay := func() error {
		c, err := s.closed(ctx, s.relay, s.floor)
		if err == nil && c.out.failed > 0 {
			err = errors.New(c.out.explain())
		}
		if err != nil {
			return fmt.Errorf("through the relay: %w", err)
		}
		r.relayMicros, r.relayRate = c.micros(), c.out.perSecond()
		return nil
	}
	gateway := func() error {
		c, err := s.closed(ctx, s.gateway, s.shots)
		if err != nil {
			return err
		}
		r.gatewayMicros, r.gatewayRate, r.closed = c.micros(), c.out.perSecond(), c.out
		r.gatewayShare = c.cpu.Seconds() / c.out.elapsed.Seconds()
		r.loadShare = c.out.own.Seconds() / c.out.elapsed.Seconds()
		r.otherShare = min(max(0, (c.busy-c.cpu).Seconds()/c.out.elapsed.Seconds()), 1-r.gatewayShare) // busy is in steps of 10 ms
		if s.shared {
			r.loadShare += c.service.Seconds() / c.out.elapsed.Seconds()
		}
		l := s.load(s.gateway, s.shots)
		l.perSecond = s.rate
		if r.open, err = generate(ctx, l); err != nil {
			return fmt.Errorf("at %.0f requests/s: %w", s.rate, err)
		}
		r.memory, err = resident(s.gateway.pid)
		return err
	}
	steps := []func() error{relay, gateway}
	if i%2 == 1 {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

func (s *stage) load(p *part, shots []shot) *load {
	return &load{
		address: p.address, shots: shots, order: s.order, connections: s.o.Profile.Connections,
		warmUp: time.Duration(s.o.Profile.WarmUp), duration: time.Duration(s.o.Profile.Duration), patience: patience, cpus: s.loading,
	}
}

// closedLoop is one measurement at capacity.
type closedLoop struct {
	out     *outcome
	cpu     time.Duration // of the part measured
	service time.Duration // CPU time of the service
	busy    time.Duration // of the part's CPU, with anything; 0 where nothing is pinned
}

// micros is the CPU time per request in microseconds. Requests that failed count: they
// cost, too.
func (c *closedLoop) micros() float64 {
	return c.cpu.Seconds() * 1e6 / float64(c.out.answered+c.out.failed)
}

// triesMax bounds how often a measurement begins anew that the machine gave no time.
const triesMax = 3

// closed measures p with every connection always busy. On a machine that is very busy a
// thread may wait for its CPU longer than a measurement lasts: that one is repeated.
func (s *stage) closed(ctx context.Context, p *part, shots []shot) (*closedLoop, error) {
	for try := 1; ; try++ {
		c, err := s.closedOnce(ctx, p, shots)
		if !errors.Is(err, errTooFew) || try == triesMax {
			return c, err
		}
		s.tell("%s; once more", err)
		s.report.warn("a measurement was repeated: %s", err)
	}
}

// answersMin is how many answers a measurement needs.
const answersMin = 10

var errTooFew = fmt.Errorf("at least %d are needed: the machine is so busy that nothing can be measured on it, the process hangs, or duration is too short", answersMin)

func (s *stage) closedOnce(ctx context.Context, p *part, shots []shot) (*closedLoop, error) {
	var at []clocks
	var failed error
	l := s.load(p, shots)
	l.mark = func() {
		c, err := s.clocks(p)
		at, failed = append(at, c), errors.Join(failed, err)
	}
	out, err := generate(ctx, l)
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	c := &closedLoop{out: out, cpu: at[1].part - at[0].part, service: at[1].service - at[0].service, busy: at[1].busy - at[0].busy}
	switch all := out.answered + out.failed; {
	case all < answersMin || c.cpu <= 0: // the kernel's count lags behind by a tick
		return nil, fmt.Errorf("%d answers came from the %s in %s: %w", all, p.name, out.elapsed.Round(time.Millisecond), errTooFew)
	case out.answered == 0:
		return nil, fmt.Errorf("no request was answered as expected: %s", out.explain())
	}
	return c, nil
}

// clocks are the CPU times used so far.
type clocks struct{ part, service, busy time.Duration }

func (s *stage) clocks(p *part) (c clocks, err error) {
	var errs [3]error
	c.part, errs[0] = cpuTime(p.pid)
	c.service, errs[1] = cpuTime(s.service.pid)
	if s.subject != nil {
		c.busy, errs[2] = machine.BusyTime(s.subject[0])
	}
	return c, errors.Join(errs[:]...)
}

// column is one figure of every round.
func (s *stage) column(value func(*round) float64) []float64 {
	values := make([]float64, len(s.rounds))
	for i := range s.rounds {
		values[i] = value(&s.rounds[i])
	}
	return values
}
