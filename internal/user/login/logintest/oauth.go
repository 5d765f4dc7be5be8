package logintest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
)

// Service is a provider with an OAuth 2 form of its own. All four kinds answer on one address.
type Service struct {
	URL string

	mu     sync.Mutex // guards what follows
	who    Who
	codes  map[string]grant
	tokens map[string]bool
	apps   int // application tokens given out
}

// Who signs in at a Service.
type Who struct {
	ID       string // number at GitHub, union id, member id
	Name     string
	Email    string
	Verified bool
	Outside  bool // WeCom: no member of the company
}

// NewService starts a provider.
func NewService(t testing.TB, who Who) *Service {
	t.Helper()
	s := &Service{who: who, codes: map[string]grant{}, tokens: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/oauth/authorize", s.authorize("client_id", "code"))
	mux.HandleFunc("POST /login/oauth/access_token", s.githubToken)
	mux.HandleFunc("GET /user", s.guarded("Authorization", "Bearer ", s.githubUser))
	mux.HandleFunc("GET /user/emails", s.guarded("Authorization", "Bearer ", s.githubMails))
	mux.HandleFunc("GET /open-apis/authen/v1/authorize", s.authorize("client_id", "code"))
	mux.HandleFunc("POST /open-apis/authen/v2/oauth/token", s.feishuToken)
	mux.HandleFunc("GET /open-apis/authen/v1/user_info", s.guarded("Authorization", "Bearer ", s.feishuUser))
	mux.HandleFunc("GET /oauth2/auth", s.authorize("client_id", "authCode"))
	mux.HandleFunc("POST /v1.0/oauth2/userAccessToken", s.dingToken)
	mux.HandleFunc("GET /v1.0/contact/users/me", s.guarded("x-acs-dingtalk-access-token", "", s.dingUser))
	mux.HandleFunc("GET /wwlogin/sso/login", s.authorize("appid", "code"))
	mux.HandleFunc("GET /cgi-bin/gettoken", s.wecomToken)
	mux.HandleFunc("GET /cgi-bin/auth/getuserinfo", s.wecomUser)
	mux.HandleFunc("GET /cgi-bin/user/get", s.wecomMember)
	hs := httptest.NewServer(mux)
	t.Cleanup(hs.Close)
	s.URL = hs.URL
	return s
}

// Who changes the person that signs in.
func (s *Service) Who(w Who) { s.mu.Lock(); s.who = w; s.mu.Unlock() }

// Forget makes all tokens invalid.
func (s *Service) Forget() { s.mu.Lock(); s.tokens = map[string]bool{}; s.mu.Unlock() }

// Apps is how many application tokens were given out.
func (s *Service) Apps() int { s.mu.Lock(); defer s.mu.Unlock(); return s.apps }

func (s *Service) person() Who { s.mu.Lock(); defer s.mu.Unlock(); return s.who }

func (s *Service) authorize(client, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		back, err := url.Parse(q.Get("redirect_uri"))
		if err != nil || q.Get(client) != ClientID || q.Get("state") == "" {
			http.Error(w, "bad request: "+r.URL.RawQuery, http.StatusBadRequest)
			return
		}
		c := Random()
		s.mu.Lock()
		s.codes[c] = grant{redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge")}
		s.mu.Unlock()
		back.RawQuery = url.Values{code: {c}, "state": {q.Get("state")}}.Encode()
		http.Redirect(w, r, back.String(), http.StatusFound)
	}
}

// redeem uses a code up and gives a token for it; "" if it does not fit.
func (s *Service) redeem(id, secret, code, redirect, verifier string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.codes[code]
	delete(s.codes, code)
	sum := sha256.Sum256([]byte(verifier))
	if !ok || id != ClientID || secret != ClientSecret || redirect != "" && redirect != g.redirect || g.challenge != "" && base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge {
		return ""
	}
	t := Random()
	s.tokens[t] = true
	return t
}

func (s *Service) known(token string) bool { s.mu.Lock(); defer s.mu.Unlock(); return s.tokens[token] }

func (s *Service) guarded(header, prefix string, h func(http.ResponseWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if v := r.Header.Get(header); len(v) <= len(prefix) || !s.known(v[len(prefix):]) {
			reply(w, http.StatusUnauthorized, map[string]any{"message": "Bad credentials", "code": 99991668})
			return
		}
		h(w)
	}
}

func (s *Service) githubToken(w http.ResponseWriter, r *http.Request) {
	t := s.redeem(r.PostFormValue("client_id"), r.PostFormValue("client_secret"), r.PostFormValue("code"), r.PostFormValue("redirect_uri"), r.PostFormValue("code_verifier"))
	if t == "" { // GitHub says so with status 200
		reply(w, http.StatusOK, map[string]string{"error": "bad_verification_code", "error_description": "The code passed is incorrect or expired."})
		return
	}
	reply(w, http.StatusOK, map[string]string{"access_token": t, "token_type": "bearer", "scope": "read:user,user:email"})
}

func (s *Service) githubUser(w http.ResponseWriter) {
	p := s.person()
	reply(w, http.StatusOK, map[string]any{"id": json.Number(p.ID), "login": "octo", "name": p.Name, "email": "public@example.com", "avatar_url": "https://avatars.example/1"})
}

func (s *Service) githubMails(w http.ResponseWriter) {
	p := s.person()
	reply(w, http.StatusOK, []map[string]any{{"email": "other@example.com", "primary": false, "verified": true}, {"email": p.Email, "primary": true, "verified": p.Verified}})
}

func body(r *http.Request) map[string]string {
	m := map[string]string{}
	_ = json.NewDecoder(r.Body).Decode(&m) // what is missing does not fit
	return m
}

func (s *Service) feishuToken(w http.ResponseWriter, r *http.Request) {
	b := body(r)
	t := s.redeem(b["client_id"], b["client_secret"], b["code"], b["redirect_uri"], b["code_verifier"])
	if t == "" || b["grant_type"] != "authorization_code" {
		reply(w, http.StatusBadRequest, map[string]any{"code": 20003, "error": "invalid_grant", "error_description": "The authorization code is invalid."})
		return
	}
	reply(w, http.StatusOK, map[string]any{"code": 0, "access_token": t, "expires_in": 7200, "token_type": "Bearer"})
}

func (s *Service) feishuUser(w http.ResponseWriter) {
	p := s.person()
	data := map[string]string{"name": p.Name, "open_id": "ou_" + p.ID, "union_id": p.ID, "email": "typed@example.com"}
	if p.Verified {
		data["enterprise_email"] = p.Email
	}
	reply(w, http.StatusOK, map[string]any{"code": 0, "msg": "success", "data": data})
}

func (s *Service) dingToken(w http.ResponseWriter, r *http.Request) {
	b := body(r)
	t := s.redeem(b["clientId"], b["clientSecret"], b["code"], "", "")
	if t == "" || b["grantType"] != "authorization_code" {
		reply(w, http.StatusBadRequest, map[string]string{"code": "invalidParameter.authCode.notFound", "message": "不存在的临时授权码"})
		return
	}
	reply(w, http.StatusOK, map[string]any{"accessToken": t, "refreshToken": Random(), "expireIn": 7200})
}

func (s *Service) dingUser(w http.ResponseWriter) {
	p := s.person()
	reply(w, http.StatusOK, map[string]string{"nick": p.Name, "unionId": p.ID, "openId": "o" + p.ID, "email": p.Email, "avatarUrl": "https://static.example/1.png"})
}

func (s *Service) wecomToken(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("corpid") != ClientID || r.URL.Query().Get("corpsecret") != ClientSecret {
		reply(w, http.StatusOK, map[string]any{"errcode": 40001, "errmsg": "invalid credential"})
		return
	}
	t := Random()
	s.mu.Lock()
	s.tokens[t] = true
	s.apps++
	s.mu.Unlock()
	reply(w, http.StatusOK, map[string]any{"errcode": 0, "errmsg": "ok", "access_token": t, "expires_in": 7200})
}

func (s *Service) wecomUser(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if !s.known(q.Get("access_token")) {
		reply(w, http.StatusOK, map[string]any{"errcode": 42001, "errmsg": "access_token expired"})
		return
	}
	p := s.person()
	switch {
	case s.redeem(ClientID, ClientSecret, q.Get("code"), "", "") == "":
		reply(w, http.StatusOK, map[string]any{"errcode": 40029, "errmsg": "invalid code"})
	case p.Outside:
		reply(w, http.StatusOK, map[string]any{"errcode": 0, "errmsg": "ok", "openid": "o123"})
	default:
		reply(w, http.StatusOK, map[string]any{"errcode": 0, "errmsg": "ok", "userid": p.ID})
	}
}

func (s *Service) wecomMember(w http.ResponseWriter, r *http.Request) {
	p := s.person()
	if !s.known(r.URL.Query().Get("access_token")) || r.URL.Query().Get("userid") != p.ID {
		reply(w, http.StatusOK, map[string]any{"errcode": 60111, "errmsg": "userid not found"})
		return
	}
	reply(w, http.StatusOK, map[string]any{"errcode": 0, "errmsg": "ok", "userid": p.ID, "name": p.Name})
}
