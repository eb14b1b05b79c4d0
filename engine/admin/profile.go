package admin

import (
	"net/http/pprof"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	"github.com/valyala/fasthttp/pprofhandler"
)

const profilePath = "/debug/pprof/"

var profileIndex = fasthttpadaptor.NewFastHTTPHandlerFunc(pprof.Index)

// profiles serves the profiles of the process under the paths of net/http/pprof.
func profiles(ctx *fasthttp.RequestCtx) {
	switch string(ctx.Path()) {
	case profilePath: // fasthttp's own handler refuses a slash at the end
		profileIndex(ctx)
	case profilePath[:len(profilePath)-1]: // the links of the index need it
		ctx.Redirect(profilePath, fasthttp.StatusMovedPermanently)
	default:
		pprofhandler.PprofHandler(ctx)
	}
}
