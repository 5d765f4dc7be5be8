package letters

// frame is what stands around every letter.
var frame = map[string]struct{ hello, copy, sign string }{
	"en": {`Hello{{with .Name}} {{.}}{{end}},`, `If the button does not work, open this address:`, `Sent by {{.Site}}. Nobody reads answers to this address.`},
	"zh": {`{{with .Name}}{{.}}，{{end}}您好：`, `如果按钮无法点击，请在浏览器中打开以下地址：`, `此邮件由 {{.Site}} 自动发送，请勿直接回复。`},
}

var texts = map[string]map[Kind]words{
	"en": {
		Verify: {
			subject: `Confirm your e-mail address`, button: `Confirm address`,
			lines: []string{`You registered at {{.Site}} with this address. Please confirm that it is yours.`},
			notes: []string{`The link works once and for {{.Valid}}.`, `If you did not register, do nothing: without a confirmation nobody can use the account.`},
		},
		Exists: {
			subject: `You already have an account`, button: `Sign in`,
			lines: []string{`Somebody, probably you, tried to register at {{.Site}} with this address. There is an account with it already, so nothing was changed.`, `If you have forgotten the password, choose "Forgot password" on the sign-in page.`},
			notes: []string{`If it was not you, do nothing.`},
		},
		Reset: {
			subject: `Choose a new password`, button: `Choose a new password`,
			lines: []string{`A new password was asked for the account with this address at {{.Site}}.`},
			notes: []string{`The link works once and for {{.Valid}}. With the new password all devices are signed out.`, `If you did not ask for it, do nothing: your password stays as it is.`},
		},
		Changed: {
			subject: `Your password was changed`, button: `Sign in`,
			lines: []string{`The password of your account at {{.Site}} was changed, and other devices were signed out.`},
			notes: []string{`If it was not you, choose "Forgot password" on the sign-in page at once and tell your administrator.`},
		},
		Approved: {
			subject: `Your account is ready`, button: `Sign in`,
			lines: []string{`Your account at {{.Site}} was approved{{with .Team}} for {{.}}{{end}}. You can sign in now.`},
		},
		Rejected: {
			subject: `Your registration was declined`,
			lines:   []string{`Your registration at {{.Site}} was declined, and what you had entered was deleted.`},
			notes:   []string{`If you think that this is a mistake, ask the people who run {{.Site}}.`},
		},
		Invitation: {
			subject: `You are invited to {{.Team}}`, button: `Accept the invitation`,
			lines: []string{`{{with .By}}{{.}} invites you{{else}}You are invited{{end}} to join {{.Team}} at {{.Site}}.`},
			notes: []string{`The link works once and for {{.Valid}}.`, `If you do not know what this is about, do nothing.`},
		},
		Reused: {
			subject: `A session was ended for your safety`, button: `Sign in`,
			lines: []string{`The key of one of your sessions at {{.Site}} was used twice, so somebody may have copied it. The session was ended{{with .By}}; the second use came from {{.}}{{end}}.`},
			notes: []string{`If something looks wrong, change your password and look at the list of your sessions.`},
		},
		Factor: {
			subject: `The second step of your sign-in was changed`, button: `Look at your account`,
			lines: []string{`At {{.Site}}: {{if eq .Detail "totp_on"}}an authenticator app was added{{else if eq .Detail "totp_off"}}the authenticator app was removed{{else if eq .Detail "passkey_on"}}a passkey was added{{else if eq .Detail "passkey_off"}}a passkey was removed{{else if eq .Detail "reset"}}an administrator removed your second factors{{else}}a recovery code was used{{end}}.`},
			notes: []string{`If it was not you, change your password at once and tell your administrator.`},
		},
	},
	"zh": {
		Verify: {
			subject: `请确认您的邮箱地址`, button: `确认邮箱`,
			lines: []string{`您使用此邮箱在 {{.Site}} 注册了账号，请确认该邮箱属于您本人。`},
			notes: []string{`链接仅可使用一次，有效期 {{.Valid}}。`, `如果不是您本人注册，请忽略此邮件：未经确认，任何人都无法使用该账号。`},
		},
		Exists: {
			subject: `您已经拥有账号`, button: `登录`,
			lines: []string{`有人（可能是您本人）使用此邮箱在 {{.Site}} 注册。该邮箱已有账号，因此没有任何改动。`, `如果忘记了密码，请在登录页选择“忘记密码”。`},
			notes: []string{`如果不是您本人操作，请忽略此邮件。`},
		},
		Reset: {
			subject: `重置您的密码`, button: `设置新密码`,
			lines: []string{`有人申请重置此邮箱在 {{.Site}} 的账号密码。`},
			notes: []string{`链接仅可使用一次，有效期 {{.Valid}}。设置新密码后，所有设备都会退出登录。`, `如果不是您本人申请，请忽略此邮件，您的密码不会改变。`},
		},
		Changed: {
			subject: `您的密码已修改`, button: `登录`,
			lines: []string{`您在 {{.Site}} 的账号密码已修改，其他设备已退出登录。`},
			notes: []string{`如果不是您本人操作，请立即在登录页选择“忘记密码”，并通知管理员。`},
		},
		Approved: {
			subject: `您的账号已通过审核`, button: `登录`,
			lines: []string{`您在 {{.Site}} 的账号已通过审核{{with .Team}}，所属团队：{{.}}{{end}}，现在可以登录。`},
		},
		Rejected: {
			subject: `您的注册申请未通过`,
			lines:   []string{`您在 {{.Site}} 的注册申请未通过，您填写的信息已删除。`},
			notes:   []string{`如有疑问，请联系 {{.Site}} 的管理员。`},
		},
		Invitation: {
			subject: `邀请您加入 {{.Team}}`, button: `接受邀请`,
			lines: []string{`{{with .By}}{{.}} {{end}}邀请您加入 {{.Site}} 上的团队 {{.Team}}。`},
			notes: []string{`链接仅可使用一次，有效期 {{.Valid}}。`, `如果您不清楚此事，请忽略此邮件。`},
		},
		Reused: {
			subject: `为了您的安全，一个会话已被终止`, button: `登录`,
			lines: []string{`您在 {{.Site}} 的某个会话凭据被使用了两次，可能已被他人复制。该会话已终止{{with .By}}；第二次使用来自 {{.}}{{end}}。`},
			notes: []string{`如有异常，请修改密码并检查会话列表。`},
		},
		Factor: {
			subject: `您的两步验证设置已变更`, button: `查看账号`,
			lines: []string{`{{.Site}}：{{if eq .Detail "totp_on"}}已添加身份验证器{{else if eq .Detail "totp_off"}}已移除身份验证器{{else if eq .Detail "passkey_on"}}已添加通行密钥{{else if eq .Detail "passkey_off"}}已移除通行密钥{{else if eq .Detail "reset"}}管理员已移除您的两步验证{{else}}使用了一个恢复代码{{end}}。`},
			notes: []string{`如果不是您本人操作，请立即修改密码并通知管理员。`},
		},
	},
}
