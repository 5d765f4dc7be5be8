package inference

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"maas/internal/platform/fault"
)

// Reason says why something is as it is, and what to do about it. It is stored as code and arguments; the words are made for the reader.
type Reason struct {
	Code    string    `json:"code"`    // operator_stop, host_memory, start_exit, ...
	Message string    `json:"message"` // in the reader's language
	Hint    string    `json:"hint"`    // the next step, "" when there is nothing to do
	At      time.Time `json:"at,omitzero"`
	args    map[string]string
}

// In returns the reason in a language: "zh" or anything else for English. Nil stays nil.
func (r *Reason) In(lang string) *Reason {
	if r == nil {
		return nil
	}
	out := *r
	if t, known := reasonTexts[r.Code]; known {
		w := t.en
		if lang == "zh" {
			w = t.zh
		}
		out.Message, out.Hint = fill(w.message, r.args), fill(w.hint, r.args)
		if r.args["max_context"] == "0" { // no context is small enough
			out.Hint = noContextFits.en.hint
			if lang == "zh" {
				out.Hint = noContextFits.zh.hint
			}
		}
	}
	return &out
}

// cause is the stored form of a Reason.
type cause struct {
	Code string            `json:"code"`
	Args map[string]string `json:"args,omitempty"`
	At   time.Time         `json:"at,omitzero"`
}

// because makes a cause from a known code and pairs of argument name and value.
func because(code string, args ...string) cause {
	if _, known := reasonTexts[code]; !known {
		panic("inference: no text for reason " + code)
	}
	c := cause{Code: code}
	for i := 0; i+1 < len(args); i += 2 {
		if c.Args == nil {
			c.Args = map[string]string{}
		}
		c.Args[args[i]] = args[i+1]
	}
	return c
}

// causeOf turns an error of a driver, the registry or ourselves into a cause. Only codes with a text of their own are kept; the words of the case go into the argument "detail".
func causeOf(err error) cause {
	e := fault.From(err)
	_, reason, _ := strings.Cut(e.Code, ".")
	if _, known := reasonTexts[reason]; !known {
		switch {
		case strings.HasPrefix(e.Code, "model.") && e.Kind != fault.Internal && e.Kind != fault.Unavailable:
			reason = "model_blocked"
		case strings.HasPrefix(e.Code, "netguard."):
			reason = "upstream_unreachable"
		default:
			reason = "internal"
		}
	}
	detail := e.Text()
	if reason == "internal" && e.Kind == fault.Internal {
		detail = "" // the words of an internal error stay in the log
	}
	return because(reason, "detail", detail)
}

// same reports whether two causes say the same, times aside.
func (c cause) same(o cause) bool { return c.Code == o.Code && maps.Equal(c.Args, o.Args) }

// view makes the outside form, in English until In is called. Nil for the empty cause.
func (c cause) view() *Reason {
	if c.Code == "" {
		return nil
	}
	return (&Reason{Code: c.Code, At: c.At, args: c.Args}).In("en")
}

// lasting reports that trying again cannot help before somebody changes something.
func (c cause) lasting() bool {
	switch c.Code {
	case "model_corrupt", "arch_unsupported", "format_unsupported", "model_blocked", "crash_loop", "engine_missing", "fit_never":
		return true
	default:
		return false
	}
}

// fill replaces {name} by arguments and drops what stays empty, with the separator before it.
func fill(text string, args map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if args[name] != "" {
			text = strings.ReplaceAll(text, "{"+name+"}", args[name])
		}
	}
	for {
		i := strings.IndexByte(text, '{')
		if i < 0 {
			return text
		}
		j := strings.IndexByte(text[i:], '}')
		if j < 0 {
			return text
		}
		head := strings.TrimRight(text[:i], " ")
		head = strings.TrimRight(strings.TrimSuffix(strings.TrimSuffix(head, ":"), "："), " ")
		text = head + text[i+j+1:]
	}
}

// gib writes bytes for people.
func gib(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}

type words struct{ message, hint string }

type reasonText struct{ en, zh words }

// noContextFits is the next step where even the smallest context does not help.
var noContextFits = reasonText{words{hint: "Choose a smaller quantization or model, lower the concurrency, or free memory: no context is small enough"}, words{hint: "任何上下文都放不下：请选择更小的量化或模型、降低并发，或释放内存"}}

// reasonTexts is the one list of reason codes with their words. A code that is not here cannot be stored.
var reasonTexts = map[string]reasonText{
	"created": {
		words{"The deployment was created", ""},
		words{"部署已创建", ""},
	},
	"operator_start": {
		words{"Somebody asked for it to run", ""},
		words{"已请求启动", ""},
	},
	"operator_stop": {
		words{"It was stopped by a person", "Start it to serve again"},
		words{"已由用户停止", "点击启动即可恢复服务"},
	},
	"operator_restart": {
		words{"Somebody asked for a restart", ""},
		words{"已请求重启", ""},
	},
	"operator_delete": {
		words{"It is being deleted", ""},
		words{"正在删除", ""},
	},
	"spec_changed": {
		words{"The settings changed; a new revision starts", ""},
		words{"配置已变更，正在启动新版本", ""},
	},
	"replaced": {
		words{"A newer revision took over", ""},
		words{"已由新版本接替", ""},
	},
	"no_surge": {
		words{"There is no room for old and new at once: the old one stops first", "Requests wait or are refused with a time to retry until the new one is ready"},
		words{"内存不足以同时运行新旧版本，先停止旧版本", "新版本就绪前请求会排队或收到重试时间"},
	},
	"placing": {
		words{"The files are made available and the memory is computed", ""},
		words{"正在准备文件并计算内存需求", ""},
	},
	"launching": {
		words{"The engine starts", ""},
		words{"引擎正在启动", ""},
	},
	"loading": {
		words{"The engine reads the weights", ""},
		words{"引擎正在加载权重", ""},
	},
	"ready": {
		words{"It answers requests", ""},
		words{"服务正常", ""},
	},
	"draining": {
		words{"Running requests end; no new ones are taken", ""},
		words{"正在等待进行中的请求结束，不再接受新请求", ""},
	},
	"server_stop": {
		words{"The server was stopped", "It starts again with the server"},
		words{"服务器已停止", "服务器启动后会自动恢复"},
	},
	"server_restart": {
		words{"The server was restarted and its engine is gone; a new one starts", ""},
		words{"服务器曾重启，原引擎已结束，正在启动新的引擎", ""},
	},
	"attached": {
		words{"The engine went on while the server restarted and was found again", ""},
		words{"服务器重启期间引擎仍在运行，已重新接管", ""},
	},
	"backoff": {
		words{"The last try failed: {detail}", "It is tried again by itself"},
		words{"上次尝试失败：{detail}", "系统会自动重试"},
	},
	"crash_loop": {
		words{"It failed {count} times in 15 minutes and is not tried any more. Last: {detail}", "Read the log, fix the cause, then restart it"},
		words{"15 分钟内失败 {count} 次，已停止重试。最近一次：{detail}", "请查看日志并修复原因，然后重启"},
	},
	"host_memory": {
		words{"It needs {need} of memory, {have} are free", "Choose a context of at most {max_context}, lower the concurrency, or stop another deployment"},
		words{"需要 {need} 内存，可用 {have}", "请将上下文降到 {max_context} 以内、降低并发，或停止其他部署"},
	},
	"fit_never": {
		words{"It needs {need} of memory, this machine has {have} in all", "Choose a context of at most {max_context}, a smaller quantization, or a larger machine"},
		words{"需要 {need} 内存，本机总共只有 {have}", "请将上下文降到 {max_context} 以内、选择更小的量化，或换用更大的机器"},
	},
	"engine_missing": {
		words{"The engine is not available here: {detail}", "Choose another engine, or install it"},
		words{"此处没有该引擎：{detail}", "请选择其他引擎或安装该引擎"},
	},
	"arch_unsupported": {
		words{"The engine does not know this architecture: {detail}", "Choose a model of a supported family (Llama, Mistral, Qwen2, Qwen3), or an upstream that serves it"},
		words{"引擎不支持该模型结构：{detail}", "请选择受支持的模型（Llama、Mistral、Qwen2、Qwen3），或使用提供该模型的上游"},
	},
	"format_unsupported": {
		words{"The engine does not read this format: {detail}", "Upload the model as GGUF or safetensors"},
		words{"引擎不支持该文件格式：{detail}", "请上传 GGUF 或 safetensors 格式的模型"},
	},
	"model_corrupt": {
		words{"The model files cannot be read: {detail}", "Upload the model again"},
		words{"模型文件无法读取：{detail}", "请重新上传模型"},
	},
	"model_blocked": {
		words{"The model version cannot be served: {detail}", "Open the model's report, fix what it names, and deploy a good version"},
		words{"该模型版本不可用：{detail}", "请查看模型报告，修复问题后部署可用的版本"},
	},
	"start_exit": {
		words{"The engine process ended: {detail}", "Read the log; it is tried again by itself"},
		words{"引擎进程已退出：{detail}", "请查看日志；系统会自动重试"},
	},
	"oom_killed": {
		words{"The engine process was killed: {detail}", "If nobody killed it by hand, the machine ran out of memory: choose a smaller context or concurrency"},
		words{"引擎进程被终止：{detail}", "若非人为终止，说明内存不足：请减小上下文或并发"},
	},
	"memory_over": {
		words{"The engine used {used}, its reservation is {need}: it is restarted", "Choose a smaller context or concurrency if this comes back"},
		words{"引擎占用 {used}，超出预留 {need}，正在重启", "若反复出现，请减小上下文或并发"},
	},
	"load_stalled": {
		words{"The engine showed no sign of progress for {seconds} seconds while starting", "Read the log; check that the disk answers; it is tried again by itself"},
		words{"引擎启动时 {seconds} 秒没有任何进展", "请查看日志并检查磁盘；系统会自动重试"},
	},
	"smoke_failed": {
		words{"The engine answered its first request wrongly: {detail}", "Check the model's report; it is tried again by itself"},
		words{"引擎首个请求回答异常：{detail}", "请查看模型报告；系统会自动重试"},
	},
	"health_failed": {
		words{"The engine stopped answering: {detail}", "It is restarted by itself"},
		words{"引擎停止响应：{detail}", "系统会自动重启"},
	},
	"engine_gone": {
		words{"The engine is no longer there", "It is started again by itself"},
		words{"引擎已不存在", "系统会自动重新启动"},
	},
	"engine_unavailable": {
		words{"The engine does not answer: {detail}", "It is tried again by itself"},
		words{"引擎没有响应：{detail}", "系统会自动重试"},
	},
	"engine_busy": {
		words{"The engine takes no more requests: {detail}", "It is tried again by itself"},
		words{"引擎已满：{detail}", "系统会自动重试"},
	},
	"upstream_auth": {
		words{"The upstream refused the credential: {detail}", "Put a valid key into the provider"},
		words{"上游拒绝了凭据：{detail}", "请在供应商中填写有效的密钥"},
	},
	"upstream_unreachable": {
		words{"The upstream does not answer: {detail}", "Check the address and the network; it is tried again by itself"},
		words{"上游没有响应：{detail}", "请检查地址和网络；系统会自动重试"},
	},
	"upstream_model": {
		words{"The upstream does not serve this model: {detail}", "List the provider's models and choose one of them"},
		words{"上游不提供该模型：{detail}", "请列出该供应商的模型并从中选择"},
	},
	"internal": {
		words{"Something went wrong on our side: {detail}", "The server's log holds more; it is tried again by itself"},
		words{"系统内部错误：{detail}", "请查看服务器日志；系统会自动重试"},
	},
}
