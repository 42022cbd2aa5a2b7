// Every word on the page, in English and Korean.

const en = {
  skip: "Skip to content", views: "Views", line: "Line", parts: "Parts", control: "Control",
  simulated: "Simulated", theme: "Light or dark", unlock: "Unlock actions", locked_tool: "Lock actions",
  newest_verdict: "Newest verdict", score: "Score", part: "Part", decided: "Decided", live: "Live picture",
  no_picture: "No picture yet", layers: "What lies over the picture", heat_map: "Heat map", contour: "Contour",
  regions: "Regions", station_state: "Station", yield: "Yield", yield_shift: "Yield this shift",
  yield_hour: "Yield this hour", rate: "Parts per minute", latency: "Picture to verdict (median)",
  rejected: "Last rejected parts", trend: "Score trend", histogram: "Scores of the last parts",
  hours: "Parts per hour", causes: "Causes this shift", part_id: "Part id or file", result: "Result", any: "any",
  from: "From", to: "To", search: "Search", export_csv: "Export CSV", found: "Parts found", number: "No.",
  mark: "Mark", older: "Older parts", part_detail: "Part", choose_part: "Choose a part on the left.",
  threshold: "Threshold", raw_threshold: "Raw threshold", comment: "Why (kept in the journal)", apply: "Apply",
  bundle_threshold: "Back to the settings' own", model: "Model", rollback: "Switch to the model before",
  before_is: "Before it: {name} {hash}, threshold {threshold}", before_none: "No model before it is kept: none was exchanged since the start.",
  rollback_explain: "Takes no loading, and holds until the next reload or restart. To keep it, set model.path in the settings.",
  capture: "Training pictures", count: "How many parts", capture_start: "Capture",
  capture_explain: "Keeps the pictures of the next parts without loss in the snapshot folder, whatever their verdict.",
  export_feedback: "Export marked parts", feedback_explain: "Unpack it and give the folder to train-station calibrate --data.",
  events: "Events", token: "Token", unlock_explain: "Actions need the station's token (hmi.token_file). It stays in this page until you close it.",
  cancel: "Cancel", unlock_ok: "Unlock", threshold_explain: "Parts at or above the line are rejected. Move it to see how the last 1,000 parts of this model would have been decided; nothing changes before you apply it.",
  OK: "OK", NOK: "NOK", NOT_DECIDABLE: "UNSURE", ERROR: "ERROR", WAIT: "WAIT",
  score_below: "Good: below threshold", score_above: "Reject: anomaly found", near_threshold: "Too close to the threshold",
  frame_incomplete: "Picture incomplete", frame_stale: "Picture too old", frame_frozen: "Camera repeats a picture", frame_late: "Picture came too late",
  exposure_out_of_range: "Exposure out of range", blur_or_dark: "Picture dark or blurred", camera_lost: "Camera lost", model_error: "Model gave no number",
  timeout: "Picture never came", overrun: "Parts come too fast", internal: "Defect of the software",
  condition_starting: "Starting", condition_online: "Inspecting", condition_degraded: "Degraded", condition_stopped: "Stopped",
  no_contact: "No contact with the station. What you see is old. Check network and power of the inspection PC.",
  station_silent: "The station says nothing. What you see is old. Look at the inspection PC, or restart the service.",
  contact_lost: "No contact", waiting: "Waiting for the first part",
  camera_files: "Pictures from files", camera_files_more: "Simulated: these verdicts must not be booked.",
  camera_connecting: "Camera is being opened", camera_streaming: "Camera works", camera_waiting_trigger: "Camera waits for a trigger",
  next_camera_lost: "Check its cable, power and network; it is tried again by itself.",
  next_camera_failed: "Compare camera.sensor in the settings with this camera, or connect the one they are for.",
  broker_none: "No broker set up", broker_none_more: "Verdicts go to the journal and to standard output.",
  broker_connected: "Broker connected", broker_away: "Broker away", broker_away_more: "Verdicts wait in the journal and are sent later. Check broker and network.",
  broker_nobody: "Nobody listens at the broker", broker_nobody_more: "It takes verdicts, and no program has subscribed to them. Start the MES, or edge-listen.", broker_refusing: "Broker refuses records",
  journal_fine: "Journal writes", journal_bad: "Journal takes nothing", next_journal_unwritable: "The station waits, so that no part passes unrecorded. Check the disk.",
  next_journal_nearly_full: "The broker has not taken the records in the journal. Bring it back.",
  next_journal_full: "The broker has not taken the records in the journal. Bring it back.",
  next_journal_quarantined: "Records count from 1 in a new one. Look at the disk, and keep the damaged file.",
  next_journal_lost_records: "Look at the disk; consumers that have these records keep them.",
  next_snapshots_stopped: "Make room on the disk, or check the folder's permissions.",
  next_drift: "Look at the newest parts, lens and light; if the product has changed, train again.",
  disk_fine: "Disk", disk_low: "Disk nearly full", disk_free: "{free} free ({share} %)", disk_next: "Make room on this disk.",
  model_fine: "Model {name}", model_more: "{algorithm}, threshold {threshold} {own}", own_threshold: "set here", bundle_own: "of the bundle",
  speed_fine: "Speed", speed_bad: "Parts decided too late", speed_more: "p99 {p99} ms", speed_late: "{late} of the last {parts} missed their deadline.", speed_next: "Look at the stages of such a part, and at other programs on this PC.", speed_skipped: "{skipped} frames skipped since the start.",
  reason_camera_lost: "Camera lost", reason_camera_failed: "Camera refuses its settings", reason_journal_unwritable: "Journal cannot be written",
  reason_journal_nearly_full: "Journal nearly full", reason_journal_full: "Journal full", reason_journal_quarantined: "Journal was damaged",
  reason_journal_lost_records: "The disk lost records", reason_snapshots_stopped: "No pictures are kept", reason_drift: "Scores drift away from good parts",
  acknowledge: "Seen", acknowledged_by: "Seen by {by}",
  of_parts: "{ok} of {total} OK", since: "counted since {since}", before: "shift before: {yield}", p99: "p95 {p95} ms, p99 {p99} ms",
  last_part: "last part {ago}", ago_now: "now", ago_s: "{n} s ago", ago_min: "{n} min ago", ago_h: "{n} h ago", none_rejected: "None rejected.", no_data: "No parts yet.",
  good_band: "good parts in training (5–95 %)", root: "height: root of the count", threshold_line: "threshold", tried_line: "tried", trace: "Counts, scores and times are read from the journal; states are those of /metrics. Settings {config}, model {model}, {software}.",
  nothing_found: "Nothing found.", overlay: "With heat map", plain: "Without", thumbnail: "Small picture", no_snapshot: "No picture of this part is kept (snapshots.folder, or the bounds of its folder).",
  mark_false_reject: "False reject: it was good", mark_missed_defect: "Missed defect: it was bad", mark_none: "Take the mark back",
  false_reject: "false reject", missed_defect: "missed defect", marked: "Marked: {mark} by {by}", everything: "Everything in the record",
  raw_score: "Raw score", trigger: "Trigger", image_file: "File", image_hash: "Picture SHA-256", model_hash: "Model SHA-256", config_hash: "Settings SHA-256", recorded: "Recorded", deadline: "Deadline", deadline_met: "met", deadline_missed: "missed", total: "Total", frame: "Frame", latency_stages: "Stages", regions_found: "Regions found", reason: "Reason",
  read_only: "Read-only: nobody can act from here. Set hmi.token_file (mode 0600) in the settings and start the station again, or come through the reverse proxy that it trusts.",
  locked: "Locked: everything can be read. Unlock to act; what you do is recorded with your name or “token”.", unlocked: "Unlocked for {by}. What you do is recorded.", unlocked_token: "Unlocked with the token. What you do is recorded.",
  failed: "Not done: {why}", threshold_done: "Threshold is {now} now (was {before}).", capture_done: "The next {count} parts are kept.", rollback_done: "Model {model} inspects now.", mark_done: "Marked.", ack_done: "Noted.",
  capturing: "{n} pictures still to come.", loading: "The model is loaded aside and tested…", parts_tried: "parts", change_count: "would change", change_newest: "would change; the newest {n}:", put_right: "of {n} marked {mark} put right",
  name: "Name", algorithm: "Algorithm", precision: "Precision", method: "Threshold by", version: "Version", no_events: "No events yet.",
};

const ko = {
  skip: "본문으로 이동", views: "화면", line: "라인", parts: "부품", control: "제어",
  simulated: "모의 실행", theme: "밝게/어둡게", unlock: "조작 잠금 해제", locked_tool: "조작 잠그기",
  newest_verdict: "최근 판정", score: "점수", part: "부품", decided: "판정 시각", live: "실시간 영상",
  no_picture: "아직 영상이 없습니다", layers: "영상 위에 표시할 항목", heat_map: "히트맵", contour: "윤곽선",
  regions: "이상 영역", station_state: "스테이션", yield: "양품률", yield_shift: "이번 근무조 양품률",
  yield_hour: "이번 시간 양품률", rate: "분당 부품 수", latency: "촬영→판정 (중앙값)",
  rejected: "최근 불합격 부품", trend: "점수 추이", histogram: "최근 부품의 점수 분포",
  hours: "시간당 부품 수", causes: "이번 근무조의 원인", part_id: "부품 번호 또는 파일", result: "판정", any: "전체",
  from: "시작", to: "끝", search: "검색", export_csv: "CSV 내보내기", found: "검색된 부품", number: "번호",
  mark: "표시", older: "이전 부품", part_detail: "부품 상세", choose_part: "왼쪽에서 부품을 선택하십시오.",
  threshold: "임계값", raw_threshold: "원시 임계값", comment: "이유 (저널에 기록됨)", apply: "적용",
  bundle_threshold: "설정값으로 되돌리기", model: "모델", rollback: "이전 모델로 전환",
  before_is: "이전 모델: {name} {hash}, 임계값 {threshold}", before_none: "이전 모델이 없습니다: 시작 후 모델이 교체되지 않았습니다.",
  rollback_explain: "다시 불러오지 않고 바로 전환되며, 다음 재설정이나 재시작까지 유지됩니다. 계속 쓰려면 설정의 model.path를 바꾸십시오.",
  capture: "학습용 영상", count: "부품 개수", capture_start: "수집",
  capture_explain: "판정과 관계없이 다음 부품들의 영상을 무손실로 스냅샷 폴더에 저장합니다.",
  export_feedback: "표시한 부품 내보내기", feedback_explain: "압축을 풀고 그 폴더를 train-station calibrate --data 에 지정하십시오.",
  events: "이벤트", token: "토큰", unlock_explain: "조작에는 스테이션의 토큰(hmi.token_file)이 필요합니다. 이 페이지를 닫을 때까지만 보관됩니다.",
  cancel: "취소", unlock_ok: "잠금 해제", threshold_explain: "선 이상인 부품은 불합격입니다. 선을 움직이면 이 모델의 최근 1,000개 부품이 어떻게 판정되었을지 보여 줍니다. 적용하기 전에는 아무것도 바뀌지 않습니다.",
  OK: "OK", NOK: "NOK", NOT_DECIDABLE: "판정 보류", ERROR: "오류", WAIT: "대기",
  answer_401: "토큰이 없거나 맞지 않습니다.", answer_403: "여기서는 조작할 수 없습니다.", answer_404: "찾을 수 없습니다.", answer_409: "지금은 할 수 없습니다.",
  answer_422: "입력이 맞지 않거나 검색 범위가 너무 넓습니다.", answer_429: "요청이 너무 많습니다. 1분 후 다시 시도하십시오.", answer_503: "지금은 응답할 수 없습니다.", answer_504: "스테이션이 응답하지 않았습니다.",
  score_below: "양품: 임계값 미만", score_above: "불량: 이상 발견", near_threshold: "임계값에 너무 가까움",
  frame_incomplete: "영상이 불완전함", frame_stale: "영상이 오래됨", frame_frozen: "카메라가 같은 영상을 반복함", frame_late: "영상이 늦게 도착함",
  exposure_out_of_range: "노출이 범위를 벗어남", blur_or_dark: "영상이 어둡거나 흐림", camera_lost: "카메라 연결 끊김", model_error: "모델이 값을 내지 못함",
  timeout: "영상이 오지 않음", overrun: "부품이 너무 빨리 들어옴", internal: "소프트웨어 결함",
  condition_starting: "시작 중", condition_online: "검사 중", condition_degraded: "성능 저하", condition_stopped: "정지됨",
  no_contact: "스테이션과 연결이 끊겼습니다. 화면은 지난 정보입니다. 검사 PC의 네트워크와 전원을 확인하십시오.",
  station_silent: "스테이션이 응답하지 않습니다. 화면은 지난 정보입니다. 검사 PC를 확인하거나 서비스를 다시 시작하십시오.",
  contact_lost: "연결 끊김", waiting: "첫 부품을 기다리는 중",
  camera_files: "파일에서 읽은 영상", camera_files_more: "모의 실행: 이 판정은 실적으로 기록하면 안 됩니다.",
  camera_connecting: "카메라를 여는 중", camera_streaming: "카메라 정상", camera_waiting_trigger: "트리거 대기 중",
  next_camera_lost: "케이블, 전원, 네트워크를 확인하십시오. 자동으로 다시 연결합니다.",
  next_camera_failed: "설정의 camera.sensor가 이 카메라에 맞는지 확인하거나 원래 카메라를 연결하십시오.",
  broker_none: "브로커 설정 없음", broker_none_more: "판정은 저널과 표준 출력에 기록됩니다.",
  broker_connected: "브로커 연결됨", broker_away: "브로커 연결 안 됨", broker_away_more: "판정은 저널에 보관되었다가 나중에 전송됩니다. 브로커와 네트워크를 확인하십시오.",
  broker_nobody: "브로커에 수신자가 없음", broker_nobody_more: "브로커는 판정을 받지만 구독하는 프로그램이 없습니다. MES 또는 edge-listen을 시작하십시오.", broker_refusing: "브로커가 기록을 거부함",
  journal_fine: "저널 기록 중", journal_bad: "저널에 기록할 수 없음", next_journal_unwritable: "기록 없이 지나가는 부품이 없도록 스테이션이 대기합니다. 디스크를 확인하십시오.",
  next_journal_nearly_full: "브로커가 저널의 기록을 받지 않았습니다. 브로커를 복구하십시오.",
  next_journal_full: "브로커가 저널의 기록을 받지 않았습니다. 브로커를 복구하십시오.",
  next_journal_quarantined: "새 저널에서 번호가 1부터 다시 시작합니다. 디스크를 점검하고 손상된 파일을 보관하십시오.",
  next_journal_lost_records: "디스크를 점검하십시오. 이미 기록을 받은 시스템의 기록은 유효합니다.",
  next_snapshots_stopped: "디스크 공간을 확보하거나 폴더 권한을 확인하십시오.",
  next_drift: "최근 부품과 렌즈, 조명을 확인하십시오. 제품이 바뀌었다면 다시 학습하십시오.",
  disk_fine: "디스크", disk_low: "디스크가 거의 찼음", disk_free: "{free} 남음 ({share} %)", disk_next: "디스크 공간을 확보하십시오.",
  model_fine: "모델 {name}", model_more: "{algorithm}, 임계값 {threshold} {own}", own_threshold: "현장 설정", bundle_own: "모델 기본값",
  speed_fine: "속도", speed_bad: "판정이 기한을 넘김", speed_more: "p99 {p99} ms", speed_late: "최근 {parts}개 중 {late}개가 기한을 넘겼습니다.", speed_next: "해당 부품의 단계별 시간과 이 PC의 다른 프로그램을 확인하십시오.", speed_skipped: "시작 후 건너뛴 프레임 {skipped}개.",
  reason_camera_lost: "카메라 연결 끊김", reason_camera_failed: "카메라가 설정을 거부함", reason_journal_unwritable: "저널에 쓸 수 없음",
  reason_journal_nearly_full: "저널이 거의 찼음", reason_journal_full: "저널이 가득 참", reason_journal_quarantined: "저널이 손상되어 새로 시작함",
  reason_journal_lost_records: "디스크가 기록을 잃음", reason_snapshots_stopped: "영상이 저장되지 않음", reason_drift: "점수가 양품 범위에서 벗어나고 있음",
  acknowledge: "확인", acknowledged_by: "{by} 확인함",
  of_parts: "{total}개 중 {ok}개 OK", since: "{since}부터 집계", before: "이전 근무조: {yield}", p99: "p95 {p95} ms, p99 {p99} ms",
  last_part: "마지막 부품 {ago}", ago_now: "방금", ago_s: "{n}초 전", ago_min: "{n}분 전", ago_h: "{n}시간 전", none_rejected: "불합격 부품이 없습니다.", no_data: "아직 부품이 없습니다.",
  good_band: "학습 양품 (5–95 %)", root: "높이: 개수의 제곱근", threshold_line: "임계값", tried_line: "시험값", trace: "개수, 점수, 시간은 저널에서 읽으며 상태는 /metrics와 같습니다. 설정 {config}, 모델 {model}, {software}.",
  nothing_found: "검색 결과가 없습니다.", overlay: "히트맵 표시", plain: "원본", thumbnail: "작은 영상", no_snapshot: "이 부품의 영상은 저장되어 있지 않습니다 (snapshots.folder 또는 폴더 한도).",
  mark_false_reject: "오검출: 실제로는 양품", mark_missed_defect: "미검출: 실제로는 불량", mark_none: "표시 취소",
  false_reject: "오검출", missed_defect: "미검출", marked: "{mark} 표시됨 ({by})", everything: "기록 전체",
  raw_score: "원시 점수", trigger: "트리거", image_file: "파일", image_hash: "영상 SHA-256", model_hash: "모델 SHA-256", config_hash: "설정 SHA-256", recorded: "기록 시각", deadline: "기한", deadline_met: "지킴", deadline_missed: "초과", total: "전체", frame: "프레임", latency_stages: "단계별 시간", regions_found: "이상 영역 수", reason: "사유",
  read_only: "읽기 전용: 여기서는 조작할 수 없습니다. 설정에 hmi.token_file(권한 0600)을 지정하고 스테이션을 다시 시작하거나, 신뢰하는 리버스 프록시를 통해 접속하십시오.",
  locked: "잠김: 모든 내용을 볼 수 있습니다. 조작하려면 잠금을 해제하십시오. 모든 조작은 기록됩니다.", unlocked: "{by} 권한으로 잠금 해제됨. 모든 조작은 기록됩니다.", unlocked_token: "토큰으로 잠금 해제됨. 모든 조작은 기록됩니다.",
  failed: "실행되지 않음: {why}", threshold_done: "임계값이 {before}에서 {now}(으)로 바뀌었습니다.", capture_done: "다음 {count}개 부품의 영상을 저장합니다.", rollback_done: "이제 모델 {model}(으)로 검사합니다.", mark_done: "표시했습니다.", ack_done: "기록했습니다.",
  capturing: "{n}개 남았습니다.", loading: "모델을 따로 불러와 시험하는 중…", parts_tried: "부품", change_count: "판정이 바뀜", change_newest: "판정이 바뀜, 최근 {n}개:", put_right: "{mark} 표시 {n}개 중 바로잡힘",
  name: "이름", algorithm: "알고리즘", precision: "정밀도", method: "임계값 방법", version: "버전", no_events: "아직 이벤트가 없습니다.",
};

const languages = { en, ko };
let current = "en";

export const language = () => current;

export function setLanguage(name) {
  current = name in languages ? name : "en";
  document.documentElement.lang = current;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
}

// A word, with {names} filled in; an unknown one is shown as it is, without underscores.
export function t(key, values = {}) {
  const text = languages[current][key] ?? en[key] ?? key.replaceAll("_", " ");
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export const known = (key) => key in en;

// Whether the language that is shown has a word of its own.
export const own = (key) => key in languages[current];
