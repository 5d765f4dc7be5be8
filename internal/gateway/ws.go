package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"maas/internal/platform/fault"
	"maas/internal/user"
)

// Limits of a WebSocket.
const (
	socketInFlight = 16
	socketsEach    = 20 // per caller
	socketPing     = 15 * time.Second
	socketIdle     = 10 * time.Minute
	socketRecheck  = 30 * time.Second
	socketWrite    = 30 * time.Second
	subprotocol    = "maas.v1"
	bearerProtocol = "maas.bearer."
)

// Close codes of ours.
const (
	closeBadFrame   websocket.StatusCode = 4400
	closeForbidden  websocket.StatusCode = 4403
	closeIdle       websocket.StatusCode = 4408
	closeTooMany    websocket.StatusCode = 4429
	closeDrain                           = websocket.StatusGoingAway
	closeSlow                            = websocket.StatusTryAgainLater
	socketFrameRead                      = 16 << 20
)

// ErrOrigin is answered to a page of another site.
var ErrOrigin = fault.New(fault.Forbidden, "gateway.bad_origin", "this origin may not open a WebSocket here")

// sockets are the open ones, so that a drain reaches them and nobody holds too many.
type sockets struct {
	mu   sync.Mutex // guards both
	open map[*socket]struct{}
	who  map[string]int
}

func (s *sockets) add(k *socket, who string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.who[who] >= socketsEach {
		return false
	}
	s.who[who]++
	s.open[k] = struct{}{}
	return true
}

func (s *sockets) remove(k *socket, who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, k)
	if s.who[who]--; s.who[who] <= 0 {
		delete(s.who, who)
	}
}

func (s *sockets) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.open {
		k.end(closeDrain, "reconnect")
	}
}

// socket is one WebSocket of one caller: several calls side by side, each frame whole.
type socket struct {
	g    *Gateway
	ws   *websocket.Conn
	cred *user.Credential

	mu      sync.Mutex // guards the rest, and orders frames
	seq     int64
	calls   map[string]*socketClient
	touched time.Time
	code    websocket.StatusCode // why we ended it; 0 = we did not
	reason  string
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// frame is what we send.
type frame struct {
	V    int       `json:"v"`
	Type string    `json:"type"`
	Seq  int64     `json:"seq"`
	TS   time.Time `json:"ts"`
	Data any       `json:"data"`
}

// want is what a client sends.
type want struct {
	Type string `json:"type"`
	wantData
	Data *wantData `json:"data"` // the same fields may stand under data, as in our own frames
}

type wantData struct {
	ID       string          `json:"id"`
	Endpoint string          `json:"endpoint"`
	Body     json.RawMessage `json:"body"`
}

// serveSocket opens the WebSocket of /v1/inference/stream.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		g.refuseHTTP(w, r, ErrMethod.With("%s takes a WebSocket upgrade", r.URL.Path), false)
		return
	}
	cred, err := g.socketCredential(r)
	if err != nil {
		g.refuseHTTP(w, r, asFault(err), false)
		return
	}
	if !g.originAllowed(r) {
		g.refuseHTTP(w, r, ErrOrigin, false)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}) // the origin was checked above
	if err != nil {
		g.Log.DebugContext(r.Context(), "websocket upgrade", "error", err)
		return
	}
	ws.SetReadLimit(socketFrameRead)
	p, err := cred.Check(g.Now())
	if err != nil || !p.May("inference:invoke") {
		_ = ws.Close(closeForbidden, "the permission inference:invoke is needed")
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	k := &socket{g: g, ws: ws, cred: cred, calls: map[string]*socketClient{}, touched: time.Now(), cancel: cancel}
	who := p.UserID + "/" + p.KeyID
	if !g.sockets.add(k, who) {
		_ = ws.Close(closeTooMany, "too many connections")
		return
	}
	defer g.sockets.remove(k, who)
	k.run(r.Context(), ctx)
}

// socketCredential reads a header, or a ticket that browsers bring as a subprotocol or in the query.
func (g *Gateway) socketCredential(r *http.Request) (*user.Credential, error) {
	ticket := r.URL.Query().Get("ticket")
	for _, p := range strings.Split(r.Header.Get("Sec-WebSocket-Protocol"), ",") {
		if t, ok := strings.CutPrefix(strings.TrimSpace(p), bearerProtocol); ok {
			ticket = t
		}
	}
	if ticket == "" {
		return g.credential(r.Context(), r)
	}
	if g.draining.Load() {
		return nil, ErrDraining.After(5 * time.Second)
	}
	p, err := g.Users.RedeemTicket(r.Context(), user.TicketUse{Ticket: ticket, Path: r.URL.Path, IP: user.RemoteIP(r)})
	if err != nil {
		return nil, err
	}
	c, err := g.Verifier.Of(r.Context(), p)
	if err != nil {
		return nil, err
	}
	return c.For(r)
}

// originAllowed reports whether a browser's page may connect: our own origin, or a listed one. Programs send none.
func (g *Gateway) originAllowed(r *http.Request) bool {
	o := r.Header.Get("Origin")
	if o == "" {
		return true
	}
	for _, have := range g.Config.Origins {
		if strings.EqualFold(have, o) {
			return true
		}
	}
	u, err := url.Parse(o)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// run reads frames until the socket ends. conn is the life of the connection, ctx that of the calls on it: reading must go on while we close, for the client answers a close.
func (k *socket) run(conn, ctx context.Context) {
	k.wg.Go(func() { k.watch(ctx) })
	k.send("hello", map[string]any{"heartbeat_s": int(socketPing.Seconds()), "max_in_flight": socketInFlight, "last_seq": 0})
	var err error
	for {
		var kind websocket.MessageType
		var b []byte
		kind, b, err = k.ws.Read(conn)
		if err != nil {
			break
		}
		if kind != websocket.MessageText {
			k.end(closeBadFrame, "frames are text")
			continue
		}
		k.take(ctx, b)
	}
	k.cancel() // what still runs is cancelled and billed as left
	k.wg.Wait()
	_ = k.ws.CloseNow()
}

// end closes the socket from our side.
func (k *socket) end(code websocket.StatusCode, reason string) {
	k.mu.Lock()
	if k.code == 0 {
		k.code, k.reason = code, reason
	}
	k.mu.Unlock()
	k.cancel()
}

// watch pings, and ends a socket that is idle or whose credential no longer holds.
func (k *socket) watch(ctx context.Context) {
	t := time.NewTicker(socketPing)
	defer t.Stop()
	missed, checked := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			k.mu.Lock()
			code, reason := k.code, k.reason
			k.mu.Unlock()
			if code != 0 {
				_ = k.ws.Close(code, reason) // waits for the client's answer, at most five seconds
			}
			return
		case <-t.C:
		}
		if time.Since(checked) >= socketRecheck {
			checked = time.Now()
			if p, err := k.cred.Check(k.g.Now()); err != nil || !p.May("inference:invoke") {
				k.end(closeForbidden, "the credential no longer holds")
				continue
			}
		}
		k.mu.Lock()
		idle := len(k.calls) == 0 && time.Since(k.touched) > socketIdle
		k.mu.Unlock()
		if idle {
			k.end(closeIdle, "idle")
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, socketPing)
		err := k.ws.Ping(pctx)
		cancel()
		if err == nil {
			missed = 0
		} else if missed++; missed >= 2 {
			k.end(closeSlow, "no answer to pings")
		}
	}
}

// take handles one frame of the client.
func (k *socket) take(ctx context.Context, b []byte) {
	var w want
	if err := json.Unmarshal(b, &w); err != nil {
		k.end(closeBadFrame, "a frame is one JSON object")
		return
	}
	if w.Data != nil {
		w.wantData = *w.Data
	}
	k.mu.Lock()
	k.touched = time.Now()
	k.mu.Unlock()
	switch w.Type {
	case "request":
		k.request(ctx, w.wantData)
	case "cancel":
		k.mu.Lock()
		if c := k.calls[w.ID]; c != nil {
			c.cancel()
		}
		k.mu.Unlock()
	case "ping":
		k.send("pong", struct{}{})
	default:
		k.end(closeBadFrame, "unknown frame type")
	}
}

// The refusals of a frame.
var (
	ErrFrameID   = fault.New(fault.Invalid, "gateway.frame_id", "a request frame needs an id of its own, of at most 100 bytes")
	ErrTooManyIn = fault.New(fault.Limited, "gateway.too_many_concurrent", "too many requests are under way on this connection")
)

func (k *socket) request(ctx context.Context, w wantData) {
	fail := func(e *fault.Error) { k.send("error", map[string]any{"id": w.ID, "error": openAI(e, "")}) }
	var op *operation
	switch w.Endpoint {
	case "/v1/chat/completions", "":
		op = &opChat
	case "/v1/completions":
		op = &opCompletion
	case "/v1/responses":
		op = &opResponses
	default:
		fail(ErrEndpoint.With("%.100q is not offered here", w.Endpoint))
		return
	}
	if k.g.draining.Load() {
		fail(ErrDraining)
		return
	}
	if int64(len(w.Body)) > k.g.Config.BodyLimit {
		fail(ErrBodyTooLarge)
		return
	}
	k.mu.Lock()
	var refused *fault.Error
	switch {
	case w.ID == "" || len(w.ID) > 100 || k.calls[w.ID] != nil:
		refused = ErrFrameID
	case len(k.calls) >= socketInFlight:
		refused = ErrTooManyIn.With("at most %d requests run at a time on one connection", socketInFlight)
	}
	if refused != nil {
		k.mu.Unlock()
		fail(refused)
		return
	}
	cctx, cancel := context.WithCancel(ctx)
	client := &socketClient{k: k, id: w.ID, cancel: cancel}
	k.calls[w.ID] = client
	k.mu.Unlock()
	k.wg.Go(func() {
		defer func() {
			cancel()
			client.free()
		}()
		k.g.serve(cctx, client, op, k.cred, w.Body, requestID(context.Background()), "")
	})
}

// send writes one frame. A client that takes none for half a minute is let go.
func (k *socket) send(kind string, data any) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seq++
	b, err := json.Marshal(frame{1, kind, k.seq, k.g.Now(), data})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), socketWrite)
	defer cancel()
	return k.ws.Write(ctx, websocket.MessageText, b)
}

// socketClient is one call on a socket.
type socketClient struct {
	k      *socket
	id     string
	cancel context.CancelFunc
	usage  json.RawMessage
	whole  []byte
}

// free lets the id be used again.
func (s *socketClient) free() {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if s.k.calls[s.id] == s {
		delete(s.k.calls, s.id)
	}
	s.k.touched = time.Now()
}

// done is the last frame of an answer: whoever reads it may use the id again at once.
func (s *socketClient) done() error {
	s.free()
	return s.k.send("done", map[string]any{"id": s.id, "usage": s.usage})
}

func (s *socketClient) head(c *call, _ bool, _ int64) {
	_ = s.k.send("start", map[string]any{"id": s.id, "request_id": c.row.RequestID, "model": c.row.Model}) // a broken socket shows at the next write
}

// write takes whole events, or pieces of a whole answer.
func (s *socketClient) write(p []byte) error {
	if bytes.HasPrefix(bytes.TrimLeft(p, " \r\n\t"), []byte("{")) || len(s.whole) > 0 {
		s.whole = append(s.whole, p...)
		if !json.Valid(s.whole) {
			return nil // more follows
		}
		b := s.whole
		s.whole = nil
		return s.chunk(b, true)
	}
	for len(p) > 0 {
		n := eventEnd(nil, p)
		if n < 0 {
			n = len(p)
		}
		event := p[:n]
		p = p[n:]
		last := endsResponse(event)
		for line := range bytes.SplitSeq(event, []byte{'\n'}) {
			data, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r"), dataField)
			data = bytes.TrimSpace(data)
			switch {
			case bytes.HasPrefix(line, []byte(": waiting")):
				if err := s.k.send("waiting", map[string]any{"id": s.id, "code": "engine", "position": 0}); err != nil {
					return err
				}
				continue
			case !ok:
				continue
			case bytes.Equal(data, doneMark):
				if err := s.done(); err != nil {
					return err
				}
				continue
			}
			if err := s.chunk(data, last); err != nil {
				return err
			}
		}
	}
	return nil
}

// endsResponse reports whether an event is the last one of a stream of responses, which has no mark behind it.
func endsResponse(event []byte) bool {
	name, ok := bytes.CutPrefix(event, []byte("event: response."))
	return ok && (bytes.HasPrefix(name, []byte("completed\n")) || bytes.HasPrefix(name, []byte("incomplete\n")) || bytes.HasPrefix(name, []byte("failed\n")))
}

// chunk sends one object of the dialect; a whole answer, and the last event of one, is followed by done.
func (s *socketClient) chunk(data []byte, whole bool) error {
	if i := bytes.Index(data, usageKey); i >= 0 {
		if v := colon(data, i+len(usageKey)); v >= 0 && v < len(data) && data[v] == '{' {
			sc := scanner{b: data, i: v}
			if sc.value(1) == nil {
				s.usage = append(json.RawMessage(nil), data[v:sc.i]...)
			}
		}
	}
	if !json.Valid(data) {
		return s.k.send("error", map[string]any{"id": s.id, "error": openAI(ErrUpstreamProtocol, "")})
	}
	if err := s.k.send("chunk", map[string]any{"id": s.id, "data": json.RawMessage(data)}); err != nil || !whole {
		return err
	}
	return s.done()
}

func (s *socketClient) flush() error { return nil }

func (s *socketClient) refuse(c *call, e *fault.Error) {
	_ = s.k.send("error", map[string]any{"id": s.id, "error": openAI(e, c.row.RequestID)}) // the client is gone: nothing left to do
}

func (s *socketClient) breakOff(c *call, e *fault.Error) { s.refuse(c, e) }
