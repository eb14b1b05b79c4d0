package upstream

import (
	"bytes"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// upgraded takes over a connection whose service agreed to change its protocol: to
// the one that was asked for, or the answer is not passed on.
func (s *Service) upgraded(k *call, c *conn) fault {
	x := k.x
	h := &x.Ctx.Response.Header
	if !bytes.EqualFold(h.Peek("Upgrade"), x.Upgrade) {
		return fault{kind: KindUpgrade, sent: true, err: errUpgrade}
	}
	k.strip.clean(h, false)
	h.ResetConnectionClose()
	h.SetProtocol(ourProtocol)
	h.Set("Connection", "Upgrade")
	h.SetBytesV("Upgrade", x.Upgrade)
	x.Ctx.Response.SkipBody = true
	held, p := k.lease, c.pool
	k.lease = lease{}
	t := &pipeline.Tunnel{Idle: k.timeouts.Read, End: func() {
		p.address.closed()
		held.end()
	}}
	if x.StreamIdle > 0 {
		t.Idle = x.StreamIdle
	}
	t.Conn, t.Pending = c.take()
	x.Tunnel = t
	x.Source = pipeline.SourceService
	s.meters.tunnels.Inc()
	s.finishRetries(k)
	return fault{}
}
