/**
 * Every word that the page says, in every language that it speaks. A language has the same keys as the others,
 * and the same {places} in each sentence; nothing here knows the page or the protocol.
 */

/** @typedef {"en"|"id"} Language */

/** What each language calls itself. @type {Record<Language, string>} */
export const LANGUAGES = { en: "English", id: "Bahasa Indonesia" };

const EN = {
  "title": "talk with somebody",
  "title.waiting": "Waiting",
  "title.reconnecting": "Reconnecting",
  "title.ended": "Conversation ended",
  "description": "Anonymous one-to-one video chat: press Start and talk with somebody.",

  // Before the first call.
  "lead": "Pour your heart out.",
  "lead.text": "Talk with one stranger, face to face. No account, and no name unless you give one.",
  "name": "Name",
  "name.example": "anonymous",
  "topics": "Topics",
  "topics.example": "music, travel",
  "topics.hint": "Separate topics with commas, five at most. Both fields may stay empty.",
  "caution": "You do not know who is at the other end. Share nothing you would not tell a stranger. Video and sound may go directly from browser to browser; your partner can then learn your network address.",
  "try": "Try camera and microphone",
  "try.end": "End the test",

  // Buttons.
  "start": "Start",
  "next": "Next",
  "stop": "Stop",
  "conversation": "Conversation",
  "mute": "Mute",
  "unmute": "Unmute",
  "camera.off": "Camera off",
  "camera.on": "Camera on",
  "share": "Share screen",
  "share.end": "Stop sharing",
  "full": "Full screen",
  "full.end": "Leave full screen",
  "devices": "Devices",
  "chat": "Chat",
  "chat.unread": "Chat, {count} unread",
  "report": "Report",
  "block": "Block",
  "help": "Help",
  "close": "Close",
  "cancel": "Cancel",
  "again": "Try again",
  "language": "Language",

  // Pictures.
  "video": "Video",
  "you": "You",
  "you.muted": "You, muted",
  "you.cameraOff": "You, camera off",
  "you.unseen": "You, muted, camera off",
  "you.sharing": "You, sharing your screen",
  "partner": "Your partner",
  "partner.screen": "Your partner's screen",
  "move": "Move your picture to another corner",
  "move.done": "Your picture is now at the {corner}.",
  "corner.top-left": "top left",
  "corner.top-right": "top right",
  "corner.bottom-right": "bottom right",
  "corner.bottom-left": "bottom left",

  // Devices.
  "devices.camera": "Camera",
  "devices.microphone": "Microphone",
  "devices.speaker": "Speaker",
  "devices.level": "Sound from your microphone",
  "devices.unnamed": "{kind} {number}",

  // How many there are.
  "online.none": "Nobody else is here at the moment. Press Start: whoever comes next meets you.",
  "online.one": "{count} person online",
  "online.other": "{count} people online",
  "online.alone": "Nobody else is online yet. You can leave this page open: whoever comes next meets you.",
  "online.with.one": "{count} other person is online.",
  "online.with.other": "{count} other people are online.",

  // How things stand.
  "state.asking": "Asking for camera and microphone. Answer the question of your browser.",
  "state.idle": "Not connected. Press Start.",
  "state.connecting": "Connecting to the server.",
  "state.retrying": "Not connected. Trying again in about {time}.",
  "state.connected": "Connected. Press Start to find a partner.",
  "state.looking": "Connected. Looking for a partner.",
  "state.looking.back": "The connection to the server is back. Looking for a partner.",
  "state.waiting": "Waiting for a partner.",
  "state.waiting.back": "The connection to the server is back. Waiting for a partner.",
  "state.paired": "Paired with {name}. Starting video.",
  "state.talking": "Talking with {name}.",
  "state.interrupted": "The video to {name} was interrupted. Trying to bring it back.",
  "state.failed": "No video connection to {name}. You can still write, or press Next.",
  "state.resuming": "The connection to the server broke off. Reconnecting; your conversation goes on.",
  "state.resuming.waiting": "The connection to the server broke off. Reconnecting; you keep your place.",
  "state.away": "{name} has lost the connection for a moment. Waiting for {name} to come back.",
  "state.ended": "{ending} Press Next to find somebody else.",
  "state.ended.back": "{ending} This page connects again by itself.",
  "seconds.one": "{count} second",
  "seconds.other": "{count} seconds",

  // In the partner's place.
  "stage.waiting": "Looking for somebody for you.",
  "stage.starting": "Starting video.",
  "stage.noCamera": "Your partner has no camera.",
  "stage.cameraOff": "Your partner's camera is off.",
  "stage.muted": "Your partner is muted.",
  "stage.failed": "No video connection.",
  "stage.interrupted": "Reconnecting the video.",
  "stage.away": "Your partner is reconnecting.",
  "stage.retrying": "Reconnecting to the server.",
  "stage.preview": "Look at your picture and listen to your voice before anybody else does.",

  // Chat.
  "chat.label": "Text chat",
  "chat.messages": "Messages",
  "chat.message": "Message",
  "chat.example": "Write a message",
  "chat.send": "Send",
  "chat.typing": "{name} is writing.",
  "partner.muted": "{name} is muted.",
  "partner.unmuted": "{name} is no longer muted.",
  "partner.cameraOff": "The camera of {name} is off.",
  "partner.cameraOn": "The camera of {name} is on.",
  "chat.new": "New message from {name}.",
  "chat.with": "You are talking with {name}.",
  "chat.common": "You both chose: {topics}.",
  "chat.youLeft": "You have left this conversation.",
  "chat.lost": "The connection to the server broke off; this conversation is over.",
  "chat.resumed": "The connection to the server is back; your conversation goes on.",
  "chat.back": "{name} is back.",
  "chat.unsent": "Your message was not sent; it is still in the field. Make it shorter or try again.",
  "chat.unsent.resuming": "Your message was not sent: the page is reconnecting. It is still in the field; send it again in a moment.",
  "chat.empty": "Here you can write to each other, even if video does not work.",

  // Why a conversation ended.
  "left.left": "{name} has left the conversation.",
  "left.next": "{name} has moved on to somebody else.",
  "left.peer_lost": "The connection of {name} broke off.",
  "left.negotiation_timeout": "Video and sound could not be set up in time.",
  "left.media_failed": "No video connection came about between the two of you.",
  "left.reported": "The conversation was ended after a report.",
  "left.server_shutdown": "The server is restarting and has ended the conversation.",

  // Ends of a connection that is tried again by itself.
  "retry.unreachable": "The server cannot be reached. It may be restarting, or your network is down.",
  "retry.offline": "Your device is offline. Check your network.",
  "retry.shutdown": "The server is restarting.",
  "retry.slow": "Your connection was too slow to keep up.",
  "retry.no_pong": "The server heard nothing from this page for too long.",
  "retry.rate_limited": "This page sent too much in a short time.",
  "retry.internal": "Something went wrong in the server.",
  "retry.busy": "The server has too much to do at the moment.",
  "retry.again": "This page connects again by itself.",
  "retry.rejoin": "You will then look for a partner again.",

  // Ends that only the person can start again from.
  "final.ended": "The server has ended the connection. Press Start to connect again.",
  "final.again": "Press Start to connect again.",
  "final.bad_token": "The server did not accept this page's access token. Reload the page, then press Start.",
  "final.protocol": "The server did not understand this page. Reload the page, then press Start.",
  "final.silent": "The connection was closed because nothing happened for a while. Press Start when you are ready.",
  "final.version": "This page is older or newer than the server. Reload the page, then press Start.",
  "final.banned": "The server does not admit you at the moment. Trying again will not help now; come back later.",
  "final.replaced": "You have connected from another window or device. Go on there, or press Start to go on here.",
  "final.origin": "The server does not accept connections from this address. Open the page at the server's own address.",
  "final.too_many": "There are already too many connections from your network. Close other windows of this page, then press Start.",

  // Camera and microphone.
  "media.insecure": "The browser gives no camera or microphone to this page because its address is not secure. Open it with https:// (or on localhost).",
  "media.missing": "No camera and no microphone was found. Plug one in or switch it on.",
  "media.refused": "Camera and microphone are not permitted. Allow them for this page in the browser's address bar or settings.",
  "media.busy": "The camera or microphone is used by another program. Close that program.",
  "media.other": "Camera and microphone could not be started.",
  "media.again": "Then press Try again.",
  "media.without": "You can go on without: you see and hear your partner and can write, but your partner neither sees nor hears you.",
  "media.noCamera": "No usable camera was found. You go on with the microphone alone.",
  "media.noMicrophone": "No usable microphone was found. You go on with the camera alone.",
  "media.busyCamera": "The camera is used by another program. Close that program. You go on with the microphone alone.",
  "media.busyMicrophone": "The microphone is used by another program. Close that program. You go on with the camera alone.",
  "media.lostCamera": "The camera was unplugged or its permission withdrawn. Plug it in or allow it.",
  "media.lostMicrophone": "The microphone was unplugged or its permission withdrawn. Plug it in or allow it.",
  "media.notChanged": "This device could not be started; you go on with the one before. Close programs that use it, or choose another.",
  "media.play": "The browser holds your partner's sound back. Press play in the video.",
  "media.speaker": "The sound could not be sent to this speaker. Choose another one.",
  "share.refused": "Your screen could not be shared. Allow it for this browser in the settings of your system, then press Share screen again.",
  "share.over": "Your screen is no longer shared.",

  // Why there is no video between two people, by how far it came.
  "failed.gathering": "Your browser found no way into the network. Check your network and switch off what may block calls, such as a VPN; then press Next.",
  "failed.checking": "No path was found between your network and your partner's. One of them probably blocks calls. You can write, or press Next; another network may help.",
  "failed.dtls": "A path was found, but the two browsers could not agree on encryption. You can write, or press Next.",
  "failed.lost": "The path to your partner broke off and could not be brought back. You can write, or press Next.",
  "unanswered.offer": "Your partner's program did not answer the last change. What you switched on or off, such as your screen, may not have reached your partner.",

  // What the server refuses.
  "refused.chat": "Your last message was not delivered.",
  "refused.request": "The server refused a request.",
  "refused.rate_limited": "That was too much in a short time.",
  "refused.unsupported": "The server does not offer this.",
  "refused.chat.unsupported": "Your partner's program has no text chat.",
  "refused.other": "({code})",
  "refused.wait": "Try again in {time}.",

  // A second tab.
  "tabs": "This page is also open and in use in another tab of this browser. You may meet yourself; press Stop in one of them.",

  // Quality.
  "quality": "Connection: {quality}",
  "quality.good": "good",
  "quality.fair": "fair",
  "quality.poor": "poor",
  "quality.unknown": "being measured",
  "quality.interrupted": "interrupted",
  "quality.details": "Connection details",
  "quality.good.text": "Picture and sound should be fine.",
  "quality.fair.text": "Picture or sound may falter now and then.",
  "quality.poor.text": "Picture or sound will falter. Come closer to your router, end downloads, or switch the camera off.",
  "quality.unknown.text": "This takes a few seconds.",
  "quality.interrupted.text": "The page is trying to bring the video back.",
  "quality.path": "Path",
  "quality.path.direct": "directly between the browsers",
  "quality.path.relay": "through a relay",
  "quality.path.unknown": "not known yet",
  "quality.rtt": "Round trip",
  "quality.rtt.value": "{count} ms",
  "quality.bitrate": "Sending and receiving",
  "quality.bitrate.value": "{send} and {receive} kbit/s",
  "quality.loss": "Loss",
  "quality.loss.value": "{percent} %",
  "quality.none": "–",

  // Report and block.
  "report.title": "Report {name}",
  "report.text": "Tell whoever runs this server what happened. The conversation goes on until you press Next or Stop.",
  "report.reason": "What happened?",
  "report.harassment": "Insults, threats or hatred",
  "report.nudity": "Nudity or sexual behaviour",
  "report.minor": "A child is in danger",
  "report.spam": "Advertising or fraud",
  "report.other": "Something else",
  "report.detail": "In your own words, if you like",
  "report.send": "Send report",
  "report.done": "Your report was sent. Thank you.",
  "block.title": "Block {name}?",
  "block.text": "This conversation ends, and you will not be paired with each other again.",
  "block.yes": "Block and go on",
  "block.done": "You have blocked {name}.",

  // Help.
  "help.title": "Help",
  "help.how": "Press Start to be introduced to a stranger. Next leaves for somebody else; Stop ends everything and switches camera and microphone off.",
  "help.keys": "Keys",
  "help.keys.use": "Use single keys",
  "help.keys.text": "They do nothing while you write. Escape leaves the message field.",
  "key.start": "start",
  "key.next": "next partner",
  "key.stop": "stop",
  "key.mute": "microphone off and on",
  "key.camera": "camera off and on",
  "key.share": "share screen",
  "key.full": "full screen",
  "key.chat": "write a message",
  "key.quality": "connection details",
  "key.help": "this help",

  // Diagnostics.
  "diagnostics": "Diagnostics",
  "diagnostics.connection": "Connection",
  "diagnostics.ice": "ICE",
  "diagnostics.signaling": "Signaling",
  "diagnostics.frames": "Frames decoded",
  "diagnostics.pair": "Candidate pair",
  "diagnostics.rtt": "Round trip",
  "diagnostics.log": "Protocol log",
};

/** @type {typeof EN} */
const ID = {
  "title": "ngobrol dengan seseorang",
  "title.waiting": "Menunggu",
  "title.reconnecting": "Menyambung kembali",
  "title.ended": "Obrolan selesai",
  "description": "Obrolan video anonim berdua: tekan Mulai dan ngobrollah dengan seseorang.",

  "lead": "Curhat, yuk.",
  "lead.text": "Ngobrol berdua dengan orang yang belum kamu kenal, tatap muka. Tanpa akun, dan tanpa nama kalau kamu tidak mau.",
  "name": "Nama",
  "name.example": "anonim",
  "topics": "Topik",
  "topics.example": "musik, jalan-jalan",
  "topics.hint": "Pisahkan topik dengan koma, paling banyak lima. Keduanya boleh kosong.",
  "caution": "Kamu tidak tahu siapa yang ada di seberang. Jangan bagikan apa pun yang tidak akan kamu ceritakan kepada orang asing. Video dan suara bisa mengalir langsung antarperamban; teman bicaramu dapat mengetahui alamat jaringanmu.",
  "try": "Coba kamera dan mikrofon",
  "try.end": "Akhiri percobaan",

  "start": "Mulai",
  "next": "Berikutnya",
  "stop": "Berhenti",
  "conversation": "Obrolan",
  "mute": "Bisukan",
  "unmute": "Bunyikan",
  "camera.off": "Kamera mati",
  "camera.on": "Kamera nyala",
  "share": "Bagikan layar",
  "share.end": "Berhenti berbagi",
  "full": "Layar penuh",
  "full.end": "Keluar layar penuh",
  "devices": "Setelan",
  "chat": "Pesan",
  "chat.unread": "Pesan, {count} belum dibaca",
  "report": "Laporkan",
  "block": "Blokir",
  "help": "Bantuan",
  "close": "Tutup",
  "cancel": "Batal",
  "again": "Coba lagi",
  "language": "Bahasa",

  "video": "Video",
  "you": "Kamu",
  "you.muted": "Kamu, dibisukan",
  "you.cameraOff": "Kamu, kamera mati",
  "you.unseen": "Kamu, dibisukan, kamera mati",
  "you.sharing": "Kamu, membagikan layar",
  "partner": "Teman bicaramu",
  "partner.screen": "Layar teman bicaramu",
  "move": "Pindahkan gambarmu ke sudut lain",
  "move.done": "Gambarmu sekarang di {corner}.",
  "corner.top-left": "kiri atas",
  "corner.top-right": "kanan atas",
  "corner.bottom-right": "kanan bawah",
  "corner.bottom-left": "kiri bawah",

  "devices.camera": "Kamera",
  "devices.microphone": "Mikrofon",
  "devices.speaker": "Pengeras suara",
  "devices.level": "Suara dari mikrofonmu",
  "devices.unnamed": "{kind} {number}",

  "online.none": "Saat ini belum ada orang lain. Tekan Mulai: siapa pun yang datang berikutnya akan bertemu denganmu.",
  "online.one": "{count} orang daring",
  "online.other": "{count} orang daring",
  "online.alone": "Belum ada orang lain yang daring. Biarkan halaman ini terbuka: siapa pun yang datang berikutnya akan bertemu denganmu.",
  "online.with.one": "{count} orang lain sedang daring.",
  "online.with.other": "{count} orang lain sedang daring.",

  "state.asking": "Meminta izin kamera dan mikrofon. Jawablah pertanyaan perambanmu.",
  "state.idle": "Belum tersambung. Tekan Mulai.",
  "state.connecting": "Menyambung ke server.",
  "state.retrying": "Tidak tersambung. Mencoba lagi dalam kira-kira {time}.",
  "state.connected": "Tersambung. Tekan Mulai untuk mencari teman bicara.",
  "state.looking": "Tersambung. Mencari teman bicara.",
  "state.looking.back": "Sambungan ke server sudah pulih. Mencari teman bicara.",
  "state.waiting": "Menunggu teman bicara.",
  "state.waiting.back": "Sambungan ke server sudah pulih. Menunggu teman bicara.",
  "state.paired": "Bertemu {name}. Memulai video.",
  "state.talking": "Ngobrol dengan {name}.",
  "state.interrupted": "Video dengan {name} terputus. Sedang dicoba dipulihkan.",
  "state.failed": "Tidak ada sambungan video dengan {name}. Kamu tetap bisa menulis, atau tekan Berikutnya.",
  "state.resuming": "Sambungan ke server terputus. Sedang menyambung kembali; obrolanmu berlanjut.",
  "state.resuming.waiting": "Sambungan ke server terputus. Sedang menyambung kembali; tempatmu tetap ada.",
  "state.away": "Sambungan {name} terputus sebentar. Menunggu {name} kembali.",
  "state.ended": "{ending} Tekan Berikutnya untuk mencari orang lain.",
  "state.ended.back": "{ending} Halaman ini menyambung kembali dengan sendirinya.",
  "seconds.one": "{count} detik",
  "seconds.other": "{count} detik",

  "stage.waiting": "Sedang mencarikan seseorang untukmu.",
  "stage.starting": "Memulai video.",
  "stage.noCamera": "Teman bicaramu tidak punya kamera.",
  "stage.cameraOff": "Kamera teman bicaramu mati.",
  "stage.muted": "Mikrofon teman bicaramu mati.",
  "stage.failed": "Tidak ada sambungan video.",
  "stage.interrupted": "Menyambungkan kembali video.",
  "stage.away": "Teman bicaramu sedang menyambung kembali.",
  "stage.retrying": "Menyambung kembali ke server.",
  "stage.preview": "Lihat gambarmu dan dengarkan suaramu sebelum orang lain.",

  "chat.label": "Obrolan tertulis",
  "chat.messages": "Daftar pesan",
  "chat.message": "Pesanmu",
  "chat.example": "Tulis pesan",
  "chat.send": "Kirim",
  "chat.typing": "{name} sedang menulis.",
  "partner.muted": "Mikrofon {name} mati.",
  "partner.unmuted": "Mikrofon {name} menyala lagi.",
  "partner.cameraOff": "Kamera {name} mati.",
  "partner.cameraOn": "Kamera {name} menyala.",
  "chat.new": "Pesan baru dari {name}.",
  "chat.with": "Kamu ngobrol dengan {name}.",
  "chat.common": "Kalian sama-sama memilih: {topics}.",
  "chat.youLeft": "Kamu sudah meninggalkan obrolan ini.",
  "chat.lost": "Sambungan ke server terputus; obrolan ini selesai.",
  "chat.resumed": "Sambungan ke server sudah pulih; obrolanmu berlanjut.",
  "chat.back": "{name} sudah kembali.",
  "chat.unsent": "Pesanmu tidak terkirim dan masih ada di kolom. Perpendek atau coba lagi.",
  "chat.unsent.resuming": "Pesanmu tidak terkirim: halaman sedang menyambung kembali. Pesannya masih ada di kolom; kirim lagi sebentar lagi.",
  "chat.empty": "Di sini kalian bisa saling menulis, juga kalau video tidak jalan.",

  "left.left": "{name} sudah meninggalkan obrolan.",
  "left.next": "{name} sudah pindah ke orang lain.",
  "left.peer_lost": "Sambungan {name} terputus.",
  "left.negotiation_timeout": "Video dan suara tidak berhasil disiapkan pada waktunya.",
  "left.media_failed": "Sambungan video di antara kalian tidak berhasil.",
  "left.reported": "Obrolan diakhiri setelah ada laporan.",
  "left.server_shutdown": "Server sedang dimulai ulang dan mengakhiri obrolan.",

  "retry.unreachable": "Server tidak dapat dihubungi. Mungkin sedang dimulai ulang, atau jaringanmu mati.",
  "retry.offline": "Perangkatmu sedang luring. Periksa jaringanmu.",
  "retry.shutdown": "Server sedang dimulai ulang.",
  "retry.slow": "Sambunganmu terlalu lambat.",
  "retry.no_pong": "Server terlalu lama tidak mendengar apa pun dari halaman ini.",
  "retry.rate_limited": "Halaman ini mengirim terlalu banyak dalam waktu singkat.",
  "retry.internal": "Ada yang salah di server.",
  "retry.busy": "Server sedang terlalu sibuk.",
  "retry.again": "Halaman ini menyambung kembali dengan sendirinya.",
  "retry.rejoin": "Setelah itu kamu akan mencari teman bicara lagi.",

  "final.ended": "Server mengakhiri sambungan. Tekan Mulai untuk menyambung lagi.",
  "final.again": "Tekan Mulai untuk menyambung lagi.",
  "final.bad_token": "Server tidak menerima token akses halaman ini. Muat ulang halaman, lalu tekan Mulai.",
  "final.protocol": "Server tidak memahami halaman ini. Muat ulang halaman, lalu tekan Mulai.",
  "final.silent": "Sambungan ditutup karena lama tidak terjadi apa-apa. Tekan Mulai kalau kamu sudah siap.",
  "final.version": "Halaman ini lebih lama atau lebih baru daripada server. Muat ulang halaman, lalu tekan Mulai.",
  "final.banned": "Server sedang tidak menerimamu. Mencoba lagi sekarang tidak membantu; datanglah lain waktu.",
  "final.replaced": "Kamu menyambung dari jendela atau perangkat lain. Lanjutkan di sana, atau tekan Mulai untuk melanjutkan di sini.",
  "final.origin": "Server tidak menerima sambungan dari alamat ini. Buka halaman di alamat server sendiri.",
  "final.too_many": "Sudah terlalu banyak sambungan dari jaringanmu. Tutup jendela lain halaman ini, lalu tekan Mulai.",

  "media.insecure": "Peramban tidak memberi kamera atau mikrofon karena alamat halaman ini tidak aman. Buka dengan https:// (atau di localhost).",
  "media.missing": "Kamera dan mikrofon tidak ditemukan. Pasang atau nyalakan salah satunya.",
  "media.refused": "Kamera dan mikrofon tidak diizinkan. Izinkan untuk halaman ini di bilah alamat atau setelan peramban.",
  "media.busy": "Kamera atau mikrofon sedang dipakai program lain. Tutup program itu.",
  "media.other": "Kamera dan mikrofon tidak bisa dinyalakan.",
  "media.again": "Lalu tekan Coba lagi.",
  "media.without": "Kamu bisa lanjut tanpa keduanya: kamu melihat dan mendengar teman bicaramu dan bisa menulis, tetapi ia tidak melihat atau mendengarmu.",
  "media.noCamera": "Tidak ada kamera yang bisa dipakai. Kamu lanjut dengan mikrofon saja.",
  "media.noMicrophone": "Tidak ada mikrofon yang bisa dipakai. Kamu lanjut dengan kamera saja.",
  "media.busyCamera": "Kamera sedang dipakai program lain. Tutup program itu. Kamu lanjut dengan mikrofon saja.",
  "media.busyMicrophone": "Mikrofon sedang dipakai program lain. Tutup program itu. Kamu lanjut dengan kamera saja.",
  "media.lostCamera": "Kamera dicabut atau izinnya ditarik. Pasang lagi atau izinkan.",
  "media.lostMicrophone": "Mikrofon dicabut atau izinnya ditarik. Pasang lagi atau izinkan.",
  "media.notChanged": "Perangkat ini tidak bisa dinyalakan; kamu lanjut dengan yang sebelumnya. Tutup program yang memakainya, atau pilih yang lain.",
  "media.play": "Peramban menahan suara teman bicaramu. Tekan putar di dalam video.",
  "media.speaker": "Suara tidak bisa dikirim ke pengeras suara ini. Pilih yang lain.",
  "share.refused": "Layarmu tidak bisa dibagikan. Izinkan untuk peramban ini di setelan sistemmu, lalu tekan Bagikan layar lagi.",
  "share.over": "Layarmu tidak dibagikan lagi.",

  "failed.gathering": "Perambanmu tidak menemukan jalan ke jaringan. Periksa jaringanmu dan matikan yang mungkin memblokir panggilan, seperti VPN; lalu tekan Berikutnya.",
  "failed.checking": "Tidak ada jalur antara jaringanmu dan jaringan teman bicaramu. Mungkin salah satunya memblokir panggilan. Kamu bisa menulis, atau tekan Berikutnya; jaringan lain mungkin membantu.",
  "failed.dtls": "Jalur ditemukan, tetapi kedua peramban tidak sepakat soal enkripsi. Kamu bisa menulis, atau tekan Berikutnya.",
  "failed.lost": "Jalur ke teman bicaramu terputus dan tidak bisa dipulihkan. Kamu bisa menulis, atau tekan Berikutnya.",
  "unanswered.offer": "Program teman bicaramu tidak menjawab perubahan terakhir. Yang kamu nyalakan atau matikan, misalnya layarmu, mungkin belum sampai kepadanya.",

  "refused.chat": "Pesan terakhirmu tidak terkirim.",
  "refused.request": "Server menolak permintaan.",
  "refused.rate_limited": "Itu terlalu banyak dalam waktu singkat.",
  "refused.unsupported": "Server tidak menyediakan ini.",
  "refused.chat.unsupported": "Program teman bicaramu tidak punya obrolan tertulis.",
  "refused.other": "({code})",
  "refused.wait": "Coba lagi dalam {time}.",

  "tabs": "Halaman ini juga terbuka dan sedang dipakai di tab lain peramban ini. Kamu bisa bertemu dirimu sendiri; tekan Berhenti di salah satunya.",

  "quality": "Sambungan: {quality}",
  "quality.good": "baik",
  "quality.fair": "cukup",
  "quality.poor": "buruk",
  "quality.unknown": "sedang diukur",
  "quality.interrupted": "terputus",
  "quality.details": "Rincian sambungan",
  "quality.good.text": "Gambar dan suara seharusnya lancar.",
  "quality.fair.text": "Gambar atau suara bisa tersendat sesekali.",
  "quality.poor.text": "Gambar atau suara akan tersendat. Mendekatlah ke router, hentikan unduhan, atau matikan kamera.",
  "quality.unknown.text": "Ini perlu beberapa detik.",
  "quality.interrupted.text": "Halaman ini sedang mencoba memulihkan video.",
  "quality.path": "Jalur",
  "quality.path.direct": "langsung antarperamban",
  "quality.path.relay": "melalui perantara",
  "quality.path.unknown": "belum diketahui",
  "quality.rtt": "Waktu bolak-balik",
  "quality.rtt.value": "{count} md",
  "quality.bitrate": "Kirim dan terima",
  "quality.bitrate.value": "{send} dan {receive} kbit/d",
  "quality.loss": "Hilang",
  "quality.loss.value": "{percent} %",
  "quality.none": "–",

  "report.title": "Laporkan {name}",
  "report.text": "Ceritakan kepada pengelola server ini apa yang terjadi. Obrolan berlanjut sampai kamu menekan Berikutnya atau Berhenti.",
  "report.reason": "Apa yang terjadi?",
  "report.harassment": "Hinaan, ancaman, atau kebencian",
  "report.nudity": "Ketelanjangan atau perilaku seksual",
  "report.minor": "Seorang anak dalam bahaya",
  "report.spam": "Iklan atau penipuan",
  "report.other": "Hal lain",
  "report.detail": "Dengan kata-katamu sendiri, kalau mau",
  "report.send": "Kirim laporan",
  "report.done": "Laporanmu terkirim. Terima kasih.",
  "block.title": "Blokir {name}?",
  "block.text": "Obrolan ini berakhir, dan kalian tidak akan dipertemukan lagi.",
  "block.yes": "Blokir dan lanjut",
  "block.done": "Kamu memblokir {name}.",

  "help.title": "Bantuan",
  "help.how": "Tekan Mulai untuk dipertemukan dengan seseorang. Berikutnya pindah ke orang lain; Berhenti mengakhiri semuanya dan mematikan kamera dan mikrofon.",
  "help.keys": "Tombol papan ketik",
  "help.keys.use": "Pakai tombol tunggal",
  "help.keys.text": "Tombol tidak berlaku selama kamu menulis. Escape keluar dari kolom pesan.",
  "key.start": "mulai",
  "key.next": "teman bicara berikutnya",
  "key.stop": "berhenti",
  "key.mute": "mikrofon mati dan nyala",
  "key.camera": "kamera mati dan nyala",
  "key.share": "bagikan layar",
  "key.full": "layar penuh",
  "key.chat": "tulis pesan",
  "key.quality": "rincian sambungan",
  "key.help": "bantuan ini",

  "diagnostics": "Diagnostik",
  "diagnostics.connection": "Sambungan",
  "diagnostics.ice": "ICE",
  "diagnostics.signaling": "Pensinyalan",
  "diagnostics.frames": "Bingkai terurai",
  "diagnostics.pair": "Pasangan kandidat",
  "diagnostics.rtt": "Waktu bolak-balik",
  "diagnostics.log": "Catatan protokol",
};

/** @type {Record<Language, typeof EN>} */
export const WORDS = { en: EN, id: ID };

/** @type {Language} */
let current = "en";

/** The language spoken now. */
export const language = () => current;

/** @param {Language} chosen */
export function speak(chosen) {
  current = chosen;
}

/**
 * The language to begin with: the remembered one, or the first of the browser's that the page speaks.
 * @param {string|undefined} remembered
 * @param {readonly string[]} preferred  such as ["id-ID", "en"]
 * @returns {Language}
 */
export function pickLanguage(remembered, preferred) {
  const wanted = [remembered ?? "", ...preferred].map((tag) => tag.toLowerCase().split("-")[0]);
  // Browsers have called Indonesian "in" before it was "id".
  const known = wanted.map((tag) => (tag === "in" ? "id" : tag)).find((tag) => Object.hasOwn(WORDS, tag));
  return /** @type {Language} */ (known ?? "en");
}

/** Whether there are words for this. @param {string} key */
export const known = (key) => Object.hasOwn(EN, key);

/**
 * Our words for something, with the values in their {places}.
 * @param {string} key
 * @param {Record<string, string|number>} [values]
 */
export function say(key, values = {}) {
  return WORDS[current][key].replace(/\{(\w+)\}/g, (_, place) => String(values[place]));
}

/**
 * The same for a number of things: which words depends on how many.
 * @param {string} key  without ".one" or ".other"
 * @param {number} count
 */
export function sayCount(key, count) {
  const many = new Intl.PluralRules(current).select(count) === "one" ? "one" : "other";
  return say(`${key}.${many}`, { count });
}
