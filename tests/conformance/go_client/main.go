// A console client for curhat.v1, written from spec/protocol.md alone. It has no WebRTC stack: its descriptions and
// candidates are made up, so that media never flows. Standard input has the lines that spec/conformance.md lists, and
// `typing on`, `typing off`.
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	mathrand "math/rand"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

type object = map[string]interface{}

const (
	welcomeTimeout = 15 * time.Second
	probeTimeout   = 10 * time.Second
	mediaTimeout   = 15 * time.Second
	settle         = 120 * time.Millisecond // between an answer and the next offer
)

// A message of the client, until the server has counted it.
type message struct {
	number int
	kind   string
	data   []byte
	room   string      // that of the pairing that it belongs to, or ""
	valid  func() bool // whether it still makes sense; nil: always
	again  bool        // it was lost with a connection, and is sent whatever has become of it
}

type client struct {
	url, name, room0 string
	topics           []string
	events           chan func()

	socket     *websocket.Conn
	generation int    // of the socket; what an older one reports is ignored
	welcome    object // the last one
	greeted    bool   // by the present connection
	welcomedAt time.Time
	resuming   bool
	online     bool // messages may be sent
	attempt    int
	notBefore  time.Time
	timer      *time.Timer // of welcome or backoff
	probe      *time.Timer // runs while a ping is unanswered
	pinger     *time.Timer
	connecting bool // a socket, or the pause before the next one

	id, token string
	lastSeq   int64
	number    int
	sent      []*message // after the first `heard`
	heard     int
	queue     []*message
	recent    map[string]*message
	pause     time.Time
	pumpTimer *time.Timer
	tokens    float64
	bytes     float64
	filled    time.Time

	wanted   bool
	holdJoin bool   // the server shuts down: join on the next connection
	waiting  bool   // from `join` on
	leaving  string // `leave` or `next`, until it is answered
	stash    []object
	waitRoom string
	call     *call
	micOn    bool
	iceTimer *time.Timer
	servers  interface{}
}

func text(m object, key string) string { s, _ := m[key].(string); return s }

func number(m object, key string, otherwise float64) float64 {
	if n, ok := m[key].(float64); ok {
		return n
	}
	return otherwise
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func say(format string, args ...interface{}) { fmt.Printf(format+"\n", args...) }

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func (c *client) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { c.events <- f })
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

func (c *client) has(feature string) bool {
	list, _ := c.welcome["features"].([]interface{})
	for _, f := range list {
		if f == feature {
			return true
		}
	}
	return false
}

func (c *client) limit(key string, otherwise float64) float64 {
	limits, _ := c.welcome["limits"].(object)
	return number(limits, key, otherwise)
}

// ---- the connection

func (c *client) connect() {
	stop(c.timer)
	stop(c.pinger)
	stop(c.probe)
	c.probe = nil
	c.generation++
	mine := c.generation
	c.socket, c.online, c.resuming, c.greeted, c.connecting, c.holdJoin = nil, false, false, false, true, false
	c.timer = c.after(welcomeTimeout, func() {
		if mine == c.generation && !c.greeted {
			old := c.socket
			c.lost(1006)
			abandon(old)
		}
	})
	go func() {
		dialer := websocket.Dialer{Subprotocols: []string{"curhat.v1"}, HandshakeTimeout: welcomeTimeout}
		socket, _, err := dialer.Dial(c.url+"?username="+url.QueryEscape(c.name), nil)
		c.events <- func() {
			if mine != c.generation {
				if err == nil {
					abandon(socket)
				}
				return
			}
			if err != nil {
				say("cannot connect: %v", err)
				c.lost(1006)
				return
			}
			c.socket = socket
			go c.read(socket, mine)
		}
	}()
}

func (c *client) read(socket *websocket.Conn, mine int) {
	for {
		kind, data, err := socket.ReadMessage()
		if err != nil {
			code := 1006
			var closed *websocket.CloseError
			if errors.As(err, &closed) {
				code = closed.Code
			}
			socket.Close()
			c.events <- func() {
				if mine == c.generation {
					c.lost(code)
				}
			}
			return
		}
		var m object
		if kind != websocket.TextMessage || json.Unmarshal(data, &m) != nil {
			continue
		}
		c.events <- func() {
			if mine == c.generation {
				c.receive(m)
			}
		}
	}
}

// Give up a connection whose session is to be resumed on another one [P-13.12].
func abandon(socket *websocket.Conn) {
	if socket == nil {
		return
	}
	go func() {
		frame := websocket.FormatCloseMessage(4900, "")
		_ = socket.WriteControl(websocket.CloseMessage, frame, time.Now().Add(2*time.Second))
		time.Sleep(2 * time.Second)
		socket.Close()
	}()
}

func (c *client) giveUp() {
	old := c.socket
	if !c.welcomedAt.IsZero() && time.Since(c.welcomedAt) < 5*time.Second {
		c.lost(1006) // it was new: not at once again
	} else {
		c.connect()
	}
	abandon(old)
}

func resumable(code int) bool {
	switch code {
	case 1001, 1005, 1006, 1011, 1012, 1013, 1014:
		return true
	case 4000, 4001, 4003, 4004:
		return false
	}
	return code >= 4000 && code < 4500
}

func (c *client) lost(code int) {
	say("the connection is lost: %d", code)
	stop(c.timer)
	stop(c.pinger)
	stop(c.probe)
	c.probe = nil
	c.generation++
	c.socket, c.online, c.resuming, c.connecting = nil, false, false, false
	if !resumable(code) {
		c.token = ""
		c.over("the session has ended")
		c.waiting, c.leaving, c.stash, c.sent, c.queue, c.heard = false, "", nil, nil, nil, 0
	}
	retry := resumable(code) || (code >= 4000 && code < 4500)
	if !retry || !c.wanted {
		c.wanted = false
		return
	}
	if !c.welcomedAt.IsZero() && time.Since(c.welcomedAt) > 10*time.Second {
		c.attempt = 0
	}
	c.welcomedAt = time.Time{}
	least := time.Until(c.notBefore)
	if least < 0 {
		least = 0
	}
	if code == 4003 && least < 10*time.Second {
		least = 10 * time.Second
	}
	backoff := math.Min(30, math.Pow(2, float64(c.attempt))) * (0.5 + mathrand.Float64()/2)
	c.attempt++
	c.connecting = true
	c.timer = c.after(least+seconds(backoff), c.connect)
}

func (c *client) schedulePing() {
	stop(c.pinger)
	mine := c.generation
	every := math.Max(1, number(c.welcome, "pingSeconds", 20))
	c.pinger = c.after(seconds(every), func() {
		if mine != c.generation {
			return
		}
		if c.online {
			c.send("ping", object{}, "", nil)
			if c.probe == nil { // not later because of another ping
				c.probe = c.after(probeTimeout, func() {
					if mine == c.generation && c.probe != nil {
						say("no answer to a ping")
						c.giveUp()
					}
				})
			}
		}
		c.schedulePing()
	})
}

// ---- what is sent

func (c *client) send(kind string, body object, room string, valid func() bool) *message {
	c.number++
	id := strconv.Itoa(c.number)
	body["type"], body["id"] = kind, id
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body)
	m := &message{number: c.number, kind: kind, data: bytes.TrimSpace(buffer.Bytes()), room: room, valid: valid}
	if float64(len(m.data)) > c.limit("messageBytes", 65536) {
		say("too long to be sent: %s", kind)
		return m
	}
	c.recent[id] = m
	delete(c.recent, strconv.Itoa(c.number-1000))
	c.queue = append(c.queue, m)
	c.pump()
	return m
}

// Send what is due, within the rate limit [P-7.3].
func (c *client) pump() {
	for c.online && len(c.queue) > 0 {
		m := c.queue[0]
		current := (m.room == "" || (c.call != nil && c.call.room == m.room)) && (m.valid == nil || m.valid())
		if !m.again && !current {
			c.queue = c.queue[1:]
			continue
		}
		now := time.Now()
		rate, byteRate := c.limit("messagesPerSecond", 20), c.limit("bytesPerSecond", 65536)
		burst, byteBurst := c.limit("messageBurst", 200), c.limit("byteBurst", 524288)
		elapsed := now.Sub(c.filled).Seconds()
		c.filled = now
		c.tokens = math.Min(burst, c.tokens+elapsed*rate)
		c.bytes = math.Min(byteBurst, c.bytes+elapsed*byteRate)
		size := math.Min(float64(len(m.data)), byteBurst)
		wait := math.Max((1-c.tokens)/math.Max(rate, 0.01), (size-c.bytes)/math.Max(byteRate, 1))
		wait = math.Max(wait, c.pause.Sub(now).Seconds())
		if wait > 0 {
			stop(c.pumpTimer)
			c.pumpTimer = c.after(seconds(wait)+5*time.Millisecond, c.pump)
			return
		}
		c.tokens--
		c.bytes -= size
		c.queue = c.queue[1:]
		c.sent = append(c.sent, m)
		c.write(m.data)
	}
}

func (c *client) write(data []byte) {
	_ = c.socket.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_ = c.socket.WriteMessage(websocket.TextMessage, data) // the reader notices if it fails
}

func (c *client) retry(m *message, wait float64) {
	c.pause = time.Now().Add(seconds(wait) + 20*time.Millisecond)
	c.tokens = math.Min(c.tokens, 0)
	if m == nil || m.kind == "ping" {
		return
	}
	at := sort.Search(len(c.queue), func(i int) bool { return c.queue[i].number > m.number })
	c.queue = append(c.queue[:at], append([]*message{m}, c.queue[at:]...)...)
	c.pump()
}

func (c *client) count(heard int) int {
	n := heard - c.heard
	if n < 0 {
		n = 0
	}
	if n > len(c.sent) {
		n = len(c.sent)
	}
	return n
}

// ---- what is received

func (c *client) receive(m object) {
	kind, seq := text(m, "type"), int64(number(m, "seq", 0))
	if !c.greeted {
		if kind == "welcome" {
			c.welcomed(m, seq)
		}
		return
	}
	stop(c.probe)
	c.probe = nil
	if c.resuming {
		switch {
		case kind == "resumed":
			c.resumed(m)
		case kind == "error" && text(m, "ref") == "resume":
			say("the session could not be resumed")
			c.begin(seq)
		case kind == "goaway" || kind == "error":
			c.handle(kind, m)
		}
		return
	}
	if seq > 0 {
		if seq <= c.lastSeq {
			return // had it
		}
		if seq > c.lastSeq+1 && c.token != "" {
			say("a message is missing")
			c.giveUp()
			return
		}
		c.lastSeq = seq
	}
	c.handle(kind, m)
	c.maybeJoin()
}

func (c *client) welcomed(m object, seq int64) {
	stop(c.timer)
	c.welcome, c.greeted, c.welcomedAt = m, true, time.Now()
	c.schedulePing()
	if c.token == "" {
		c.begin(seq)
		return
	}
	c.resuming = true
	data, _ := json.Marshal(object{"type": "resume", "token": c.token, "lastSeq": c.lastSeq})
	c.write(data)
}

func (c *client) resumed(m object) {
	say("resumed")
	c.resuming, c.online = false, true
	c.id, c.token = text(m, "sessionId"), text(m, "resumeToken") // lastSeq stays [P-13.16]
	heard := int(number(m, "heard", 0))
	lost := c.sent[c.count(heard):]
	for _, l := range lost {
		l.again = true
	}
	c.queue = append(append([]*message{}, lost...), c.queue...)
	c.sent, c.heard = nil, heard
	c.pump()
	c.maybeJoin()
}

// A new session; what there was in the old one is over.
func (c *client) begin(seq int64) {
	c.over("the partner is lost")
	c.resuming, c.online = false, true
	c.id, c.token, c.lastSeq = text(c.welcome, "sessionId"), text(c.welcome, "resumeToken"), seq
	c.waiting, c.leaving, c.stash = false, "", nil
	c.sent, c.queue, c.heard, c.recent = nil, nil, 0, map[string]*message{}
	c.tokens, c.bytes, c.filled = c.limit("messageBurst", 200), c.limit("byteBurst", 524288), time.Now()
	c.pause = time.Time{}
	c.maybeJoin()
}

func (c *client) over(why string) {
	stop(c.iceTimer)
	if c.call != nil {
		stop(c.call.mediaTimer)
		stop(c.call.offerTimer)
		c.call = nil
		say("the call is over: %s", why)
	}
}

func cut(s string, characters float64) string {
	if r := []rune(s); float64(len(r)) > characters {
		return string(r[:int(characters)])
	}
	return s
}

func (c *client) maybeJoin() {
	if !c.online || !c.wanted || c.waiting || c.call != nil || c.leaving != "" || c.holdJoin {
		return
	}
	body := object{}
	if name := cut(c.name, c.limit("usernameCharacters", 64)); name != "" {
		body["username"] = name
	}
	if c.has("topics") {
		topics := []string{}
		for _, topic := range c.topics {
			if float64(len(topics)) < c.limit("topics", 5) {
				topics = append(topics, cut(topic, c.limit("topicCharacters", 32)))
			}
		}
		body["topics"] = topics
	}
	if c.room0 != "" && c.has("rooms") {
		body["room"] = c.room0
	}
	c.waiting, c.waitRoom = true, ""
	c.send("join", body, "", func() bool { return c.wanted && c.waiting })
}

func (c *client) handle(kind string, m object) {
	room := text(m, "roomId")
	switch kind {
	case "ready", "join", "offer", "answer", "candidate", "chat", "typing", "media", "peer":
		if c.leaving != "" { // [P-4.11]
			c.stash = append(c.stash, m)
			return
		}
		if kind != "ready" && kind != "join" && (c.call == nil || room != c.call.room) { // [P-4.8]
			return
		}
	}
	switch kind {
	case "ready":
		c.waitRoom = room
		say("waiting")
	case "join":
		c.joined(m)
	case "offer", "answer", "candidate":
		payload, _ := m["payload"].(object)
		c.call.signal(kind, payload)
	case "chat":
		say("typing: false") // [P-3.17]
		say("%q: %q", text(m, "username"), text(m, "text"))
	case "typing":
		say("typing: %v", m["active"])
	case "media":
		say("the partner's microphone: %v, camera: %v", m["audio"], m["video"])
	case "peer":
		say("the partner is %q", text(m, "state"))
	case "leave":
		c.left(room, text(m, "from"), text(m, "reason"))
	case "pong":
		heard := int(number(m, "heard", 0))
		if heard > c.heard {
			c.sent = c.sent[c.count(heard):]
			c.heard = heard
		}
	case "ice":
		c.ice(m)
	case "error":
		c.failed(m)
	case "goaway":
		c.notBefore = time.Now().Add(seconds(number(m, "retryAfterSeconds", 1)))
	}
}

func (c *client) joined(m object) {
	c.over("another partner")
	c.waiting = false
	c.call = &call{c: c, room: text(m, "roomId"), polite: m["polite"] == true,
		relay: text(m, "iceTransportPolicy") == "relay", mayOffer: text(m, "role") == "offerer"}
	say("a partner: %q (%s)", text(m, "username"), text(m, "role"))
	c.ice(m)
	if !c.micOn {
		c.sendMedia()
	}
	c.call.fresh()
	c.call.negotiate()
}

func (c *client) ice(m object) {
	stop(c.iceTimer)
	c.servers = m["iceServers"] // for the next ICE restart, if there were a WebRTC stack
	ttl := number(m, "ttlSeconds", 0)
	if c.call != nil && ttl > 0 && c.has("ice") {
		room := c.call.room
		c.iceTimer = c.after(seconds(ttl*0.7), func() {
			if c.call != nil && c.call.room == room {
				c.send("ice", object{}, room, nil)
			}
		})
	}
}

func (c *client) sendMedia() {
	if c.call != nil && c.leaving == "" && c.has("media") {
		c.send("media", object{"audio": c.micOn, "video": true}, c.call.room, nil)
	}
}

func (c *client) left(room, from, reason string) {
	if from == c.id && c.leaving != "" { // the echo
		next := c.leaving == "next"
		c.leaving, c.stash = "", nil
		c.over(reason)
		c.waiting, c.waitRoom = next, ""
		return
	}
	switch {
	case c.call != nil && room == c.call.room:
		c.over(reason)
	case c.call == nil && c.waiting && room == c.waitRoom && c.leaving == "":
		c.waiting = false
	default:
		return
	}
	if reason == "server_shutdown" {
		c.holdJoin = true
	} else if c.leaving == "" {
		c.wanted = false
	}
}

func (c *client) failed(m object) {
	code, ref, id := text(m, "code"), text(m, "ref"), text(m, "id")
	say("error %q for %q: %q", code, ref, text(m, "message"))
	after := number(m, "retryAfterSeconds", 1)
	if m["fatal"] == true {
		c.notBefore = time.Now().Add(seconds(after))
		return
	}
	if code == "rate_limited" {
		c.retry(c.recent[id], after)
		return
	}
	switch ref {
	case "leave", "next":
		if c.leaving != ref {
			return
		}
		c.leaving = ""
		stash := c.stash
		c.stash = nil
		if code == "wrong_state" { // the partner left first [P-4.9]
			c.over("the partner had left")
			c.waiting = false
			return
		}
		for _, ignored := range stash { // it had no effect: the pairing goes on
			c.handle(text(ignored, "type"), ignored)
		}
	case "join":
		if c.waiting && c.waitRoom == "" {
			c.waiting, c.wanted = false, false
		}
	case "offer":
		if c.call != nil && c.call.pending != nil && c.call.pending.message == c.recent[id] {
			c.call.refused(code)
		}
	}
}

// ---- the user

func (c *client) command(line string) {
	word, rest, _ := strings.Cut(line, " ")
	active := c.call != nil && c.leaving == ""
	switch word {
	case "join":
		c.wanted, c.holdJoin = true, false
		if !c.connecting {
			c.connect()
		}
		c.maybeJoin()
	case "leave":
		c.wanted = false
		if (c.call != nil || c.waiting) && c.leaving == "" {
			c.leaving = "leave"
			c.send("leave", object{}, "", nil)
		}
	case "next":
		if c.leaving != "" || !c.has("next") {
			return
		}
		if c.call != nil {
			c.wanted, c.leaving = true, "next"
			c.send("next", object{}, "", nil)
		} else if c.online && !c.waiting { // the partner has just left
			c.wanted, c.holdJoin = true, false
			c.maybeJoin()
		}
	case "chat":
		rest = strings.ToValidUTF8(rest, "\ufffd")
		n := float64(utf8.RuneCountInString(rest))
		if !active || !c.has("chat") || n == 0 || n > c.limit("chatCharacters", 2000) {
			say("not sent")
			return
		}
		c.send("chat", object{"text": rest}, c.call.room, nil)
	case "typing":
		if active && c.has("typing") {
			c.send("typing", object{"active": rest == "on"}, c.call.room, nil)
		}
	case "media":
		c.micOn = rest != "off"
		c.sendMedia()
	case "renegotiate":
		if active {
			c.call.restart = true
			c.call.negotiate()
		}
	case "quit":
		if c.socket != nil {
			frame := websocket.FormatCloseMessage(1000, "")
			_ = c.socket.WriteControl(websocket.CloseMessage, frame, time.Now().Add(time.Second))
			time.Sleep(300 * time.Millisecond)
		}
		os.Exit(0)
	}
}

// ---- a call: perfect negotiation with made-up descriptions

type section struct {
	kind, head, mid, direction string // head: protocol and formats
	codecs                     []string
	refused                    bool
}

type offer struct {
	message  *message
	sections []section
	ufrag    string
	restart  bool
}

type call struct {
	c                   *client
	room                string
	polite, relay       bool
	mayOffer            bool
	ignoring, restart   bool
	pending             *offer
	sections            []section
	ufrag, remoteUfrag  string
	trickled            string // the fragment whose candidates were sent
	version, retries    int
	session             string
	mediaTimer          *time.Timer
	offerTimer          *time.Timer
	lastAnswer          *message
	notOfferBefore      time.Time
	failedFor, checking string // fragments
}

func (k *call) fresh() {
	k.ufrag = random(4)
	k.session = strconv.FormatInt(mathrand.Int63n(1<<62), 10)
}

func (k *call) now() bool { return k.c.call == k }

// Offer, if there is something to negotiate and this side may.
func (k *call) negotiate() {
	if !k.mayOffer || k.pending != nil || k.c.leaving != "" {
		return
	}
	sections := append([]section{}, k.sections...)
	for _, kind := range []string{"audio", "video"} {
		if !hasKind(sections, kind) {
			sections = append(sections, ownSection(kind, freeMid(sections)))
		}
	}
	if len(sections) == len(k.sections) && !k.restart {
		return
	}
	if wait := time.Until(k.notOfferBefore); wait > 0 {
		stop(k.offerTimer)
		k.offerTimer = k.c.after(wait+time.Millisecond, func() {
			if k.now() {
				k.negotiate()
			}
		})
		return
	}
	o := &offer{sections: sections, ufrag: k.ufrag, restart: k.restart}
	if k.restart && k.remoteUfrag != "" {
		o.ufrag = random(4)
	}
	k.restart = false
	for i := range o.sections {
		if !o.sections[i].refused && o.sections[i].kind != "application" {
			o.sections[i].direction = direction(o.sections, i, "sendrecv")
		}
	}
	k.pending = o
	payload := object{"type": "offer", "sdp": k.describe(o.sections, o.ufrag, "actpass", nil)}
	o.message = k.c.send("offer", object{"payload": payload}, k.room, func() bool { return k.pending == o })
	k.trickle(o.ufrag, o.sections, func() bool { return k.pending == o || k.ufrag == o.ufrag })
}

func (k *call) refused(code string) {
	o := k.pending
	k.pending = nil
	k.restart = k.restart || o.restart
	k.trickled = ""
	if code == "bad_message" || code == "unsupported" || k.retries == 2 {
		return
	}
	k.retries++
	if code == "not_your_turn" {
		k.mayOffer = false // after the partner's
		return
	}
	k.notOfferBefore = time.Now().Add(time.Second)
	k.negotiate()
}

func (k *call) signal(kind string, payload object) {
	sdp := text(payload, "sdp")
	switch kind {
	case "candidate":
		if !k.ignoring {
			say("candidate: %q", text(payload, "candidate"))
		}
	case "answer":
		if k.pending == nil {
			return
		}
		o := k.pending
		k.pending = nil
		k.ignoring, k.ufrag, k.sections = false, o.ufrag, o.sections
		answered, remote := parse(sdp)
		for i := range k.sections {
			if i < len(answered) {
				k.sections[i].refused = answered[i].refused
				k.sections[i].direction = reverse(answered[i].direction)
			}
		}
		k.remoteUfrag = remote
		k.check()
		if !k.restart {
			k.notOfferBefore = time.Now().Add(settle)
		}
		k.negotiate()
	case "offer":
		k.ignoring = k.pending != nil && !k.polite
		if k.ignoring { // [P-5.9]
			return
		}
		if k.pending != nil { // rollback [P-5.10]
			k.restart = k.restart || k.pending.restart
			if k.trickled == k.pending.ufrag { // the server has dropped these candidates
				k.trickled = ""
				if k.remoteUfrag == "" {
					k.ufrag = random(4)
				}
			}
			k.pending = nil
		}
		k.mayOffer = true
		k.answer(sdp)
		k.notOfferBefore = time.Now().Add(settle)
		k.negotiate()
	}
}

func (k *call) answer(sdp string) {
	offered, remote := parse(sdp)
	if k.remoteUfrag != "" && remote != k.remoteUfrag { // the partner restarts ICE
		k.ufrag = random(4)
		k.restart = false
	}
	k.remoteUfrag = remote
	for i := range offered {
		s := &offered[i]
		s.refused = s.refused || (s.kind != "audio" && s.kind != "video" && s.kind != "application")
		s.direction = direction(offered, i, s.direction)
	}
	k.sections = offered
	setup := "active"
	if strings.Contains(sdp, "a=setup:active") {
		setup = "passive"
	}
	var bundle []string
	for _, line := range lines(sdp) {
		if strings.HasPrefix(line, "a=group:BUNDLE") {
			bundle = strings.Fields(line)[1:]
		}
	}
	if bundle == nil {
		bundle = []string{}
	}
	payload := object{"type": "answer", "sdp": k.describe(offered, k.ufrag, setup, bundle)}
	var mine *message
	valid := func() bool { return mine == nil || k.lastAnswer == mine }
	mine = k.c.send("answer", object{"payload": payload}, k.room, valid)
	k.lastAnswer = mine
	ufrag := k.ufrag
	k.trickle(ufrag, offered, func() bool { return k.ufrag == ufrag })
	k.check()
}

// Send the candidates of a generation, once.
func (k *call) trickle(ufrag string, sections []section, valid func() bool) {
	if k.trickled == ufrag || len(sections) == 0 {
		return
	}
	k.trickled = ufrag
	line := "candidate:1 1 udp 2122260223 192.0.2.7 50007 typ host generation 0 ufrag " + ufrag
	if k.relay {
		line = "candidate:2 1 udp 41819903 198.51.100.7 50008 typ relay raddr 0.0.0.0 rport 0 generation 0 ufrag " + ufrag
	}
	for _, candidate := range []string{line, ""} {
		payload := object{"candidate": candidate, "sdpMid": sections[0].mid, "sdpMLineIndex": 0, "usernameFragment": ufrag}
		k.c.send("candidate", object{"payload": payload}, k.room, valid)
	}
}

// Media is expected from now on; it never comes.
func (k *call) check() {
	live := false
	for _, s := range k.sections {
		live = live || (!s.refused && s.direction != "inactive" && s.kind != "application")
	}
	if !live {
		stop(k.mediaTimer)
		k.checking = ""
		return
	}
	ufrag := k.ufrag
	if k.checking == ufrag || k.failedFor == ufrag {
		return
	}
	k.checking = ufrag
	stop(k.mediaTimer)
	k.mediaTimer = k.c.after(mediaTimeout, func() {
		if !k.now() || k.ufrag != ufrag || k.c.leaving != "" {
			return
		}
		k.checking, k.failedFor = "", ufrag
		if k.c.has("status") {
			k.c.send("status", object{"media": "failed", "stage": "checking"}, k.room, nil)
		}
	})
}

// ---- SDP

func lines(sdp string) []string {
	return strings.Split(strings.ReplaceAll(sdp, "\r\n", "\n"), "\n")
}

func hasKind(sections []section, kind string) bool {
	for _, s := range sections {
		if s.kind == kind {
			return true
		}
	}
	return false
}

func freeMid(sections []section) string {
	for n := len(sections); ; n++ {
		mid, free := strconv.Itoa(n), true
		for _, s := range sections {
			free = free && s.mid != mid
		}
		if free {
			return mid
		}
	}
}

func ownSection(kind, mid string) section {
	s := section{kind: kind, mid: mid, direction: "sendrecv", head: "UDP/TLS/RTP/SAVPF 111",
		codecs: []string{"a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1"}}
	if kind == "video" {
		s.head = "UDP/TLS/RTP/SAVPF 96"
		s.codecs = []string{"a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli"}
	}
	return s
}

func reverse(direction string) string {
	switch direction {
	case "sendonly":
		return "recvonly"
	case "recvonly":
		return "sendonly"
	}
	return direction
}

// The direction of an own section: only the first audio and the first video are sent, as far as the partner's permits.
func direction(sections []section, index int, partner string) string {
	kind := sections[index].kind
	if kind == "application" {
		return ""
	}
	sends := true
	for _, s := range sections[:index] {
		sends = sends && s.kind != kind
	}
	own := reverse(partner)
	switch {
	case own == "sendrecv" && !sends:
		return "recvonly"
	case own == "sendonly" && !sends:
		return "inactive"
	}
	return own
}

func parse(sdp string) (sections []section, ufrag string) {
	session := "sendrecv"
	var s *section
	for _, line := range lines(sdp) {
		if strings.HasPrefix(line, "m=") {
			f := strings.Fields(line[2:])
			if len(f) < 4 {
				continue
			}
			sections = append(sections, section{kind: f[0], head: strings.Join(f[2:], " "), refused: f[1] == "0",
				direction: session, mid: strconv.Itoa(len(sections))})
			s = &sections[len(sections)-1]
			continue
		}
		attribute := strings.TrimPrefix(line, "a=")
		name, value, _ := strings.Cut(attribute, ":")
		switch name {
		case "sendrecv", "sendonly", "recvonly", "inactive":
			if s == nil {
				session = name
			} else {
				s.direction = name
			}
		case "ice-ufrag":
			if ufrag == "" {
				ufrag = value
			}
		case "mid":
			if s != nil {
				s.mid = value
			}
		case "rtpmap", "fmtp", "rtcp-fb", "sctp-port", "max-message-size":
			if s != nil {
				s.codecs = append(s.codecs, line)
			}
		}
	}
	return sections, ufrag
}

// A session description. With bundle nil everything is bundled, otherwise what of it is not refused.
func (k *call) describe(sections []section, ufrag, setup string, bundle []string) string {
	k.version++
	out := []string{"v=0", fmt.Sprintf("o=- %s %d IN IP4 127.0.0.1", k.session, k.version), "s=-", "t=0 0"}
	group := "a=group:BUNDLE"
	for _, s := range sections {
		in := bundle == nil
		for _, mid := range bundle {
			in = in || mid == s.mid
		}
		if in && !s.refused {
			group += " " + s.mid
		}
	}
	if group != "a=group:BUNDLE" {
		out = append(out, group)
	}
	out = append(out, "a=msid-semantic: WMS *")
	fingerprint := strings.TrimSuffix(strings.Repeat("3A:", 32), ":")
	for _, s := range sections {
		port := "9"
		if s.refused {
			port = "0"
		}
		out = append(out, "m="+s.kind+" "+port+" "+s.head, "c=IN IP4 0.0.0.0", "a=mid:"+s.mid)
		if s.kind != "application" {
			out = append(out, "a=rtcp:9 IN IP4 0.0.0.0", "a=rtcp-mux")
			if s.refused {
				s.direction = "inactive"
			}
			out = append(out, "a="+s.direction)
			if strings.HasPrefix(s.direction, "send") {
				out = append(out, "a=msid:gopher "+s.kind)
			}
		}
		out = append(out, s.codecs...)
		if !s.refused {
			out = append(out, "a=ice-ufrag:"+ufrag, "a=ice-pwd:"+strings.Repeat(ufrag, 3), "a=ice-options:trickle",
				"a=fingerprint:sha-256 "+fingerprint, "a=setup:"+setup)
		}
	}
	return strings.Join(out, "\r\n") + "\r\n"
}

func main() {
	name := flag.String("name", "Gopher", "the user's name")
	topics := flag.String("topics", "go", "topics, separated by commas")
	room := flag.String("room", "", "a room")
	flag.Parse()
	mathrand.Seed(time.Now().UnixNano())
	address := os.Getenv("CURHAT_URL")
	if flag.NArg() > 0 {
		address = flag.Arg(0)
	}
	say("partners see your session's id, your name, topics in common and, unless the server relays, your IP address")
	c := &client{url: address, name: *name, room0: *room, events: make(chan func(), 1000), micOn: true,
		recent: map[string]*message{}}
	for _, topic := range strings.Split(*topics, ",") {
		if topic = strings.TrimSpace(topic); topic != "" {
			c.topics = append(c.topics, topic)
		}
	}
	go func() {
		input := bufio.NewReader(os.Stdin)
		for {
			line, err := input.ReadString('\n')
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				c.events <- func() { c.command(line) }
			}
			if err != nil {
				return
			}
		}
	}()
	for event := range c.events {
		event()
	}
}
