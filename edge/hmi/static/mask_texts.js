// The words of mask and zones, in English and Korean.

export const en = {
  mask: "Mask and zones", mask_open: "Draw", mask_explain: "Ignored areas are neither scored nor outlined. A zone can have its own limits.",
  mask_now_none: "The whole image is inspected.", mask_now: "{ignored} ignored areas, {zones} zones ({origin})",
  origin_bundle: "of the model", origin_settings: "of the settings", origin_page: "drawn here", mask_painted: "painted",
  mask_image: "Image to draw on", mask_live: "Newest live image", mask_part: "No. {seq}, {result}",
  tool_ignore: "Ignore", tool_zone: "Zone", tool_brush: "Brush", tool_erase: "Eraser", mask_tools: "Tools", brush_width: "Width",
  mask_undo: "Undo", mask_finish: "Close polygon", mask_cancel: "Discard polygon", mask_delete: "Delete", mask_reload: "Reload", mask_empty: "Start empty",
  mask_help: "Click or tap the corners one after the other. To finish, click the first one again, or “Close polygon”. Brush and eraser follow the finger.",
  zone_name: "Name", zone_threshold: "Raw threshold", zone_guard: "Guard band", zone_smallest: "Smallest region (px)", zone_new: "zone {n}", zone_as_part: "as the part",
  ignored_area: "Ignored area {n}", painted_area: "Painted", mask_nothing: "Nothing is drawn yet.",
  mask_threshold: "Raw threshold for this mask", mask_threshold_keep: "empty: keeps {threshold}",
  mask_threshold_explain: "The threshold stays where less of the image is inspected, because no good part can then score higher. Otherwise enter one, or run train-station calibrate --mask on the workstation.",
  mask_save: "Save", mask_restore: "Restore the mask of the settings", mask_done: "From the next part on: {ignored} % of the image ignored, zones: {zones}, threshold {threshold}.", mask_no_zones: "none",
  mask_unsaved: "Not saved yet.", mask_other_size: "The mask in force was drawn on an image of {width}×{height}, this one has {other}. Choose an image of that size, or begin empty.",
  mask_too_long: "More is drawn than one request holds. Save what there is, and go on from there.",
  mask_needs_kept: "This model aligns parts: choose a kept part, so that the mask lies as in the reference.",
  event_mask_changed: "Mask changed", event_text_mask_changed: "Ignored {ignored_before} → {ignored_now} of the image, zones: {zones}, threshold {threshold}",
};

export const ko = {
  mask: "마스크와 구역", mask_open: "그리기", mask_explain: "무시한 곳은 점수를 매기지 않고 표시하지 않습니다. 구역에는 따로 기준을 줄 수 있습니다.",
  mask_now_none: "영상 전체를 검사합니다.", mask_now: "무시 영역 {ignored}개, 구역 {zones}개 ({origin})",
  origin_bundle: "모델 기본값", origin_settings: "설정 파일", origin_page: "여기서 그림", mask_painted: "칠한 곳 있음",
  mask_image: "그릴 영상", mask_live: "최근 실시간 영상", mask_part: "{seq}번, {result}",
  tool_ignore: "무시", tool_zone: "구역", tool_brush: "붓", tool_erase: "지우개", mask_tools: "도구", brush_width: "굵기",
  mask_undo: "되돌리기", mask_finish: "다각형 닫기", mask_cancel: "다각형 버리기", mask_delete: "삭제", mask_reload: "다시 불러오기", mask_empty: "빈 상태로 시작",
  mask_help: "꼭짓점을 차례로 누르고, 첫 점을 다시 누르거나 “다각형 닫기”를 누르면 끝납니다. 붓과 지우개는 손가락을 따라갑니다.",
  zone_name: "이름", zone_threshold: "원시 임계값", zone_guard: "보류 폭", zone_smallest: "최소 영역 (px)", zone_new: "구역 {n}", zone_as_part: "부품과 같음",
  ignored_area: "무시 영역 {n}", painted_area: "칠한 곳", mask_nothing: "아직 그린 것이 없습니다.",
  mask_threshold: "이 마스크의 원시 임계값", mask_threshold_keep: "비우면 {threshold} 유지",
  mask_threshold_explain: "검사하는 곳이 줄어 양품의 점수가 더 높아질 수 없으면 임계값을 유지합니다. 아니면 값을 직접 주거나, 작업용 PC에서 train-station calibrate --mask 를 실행하십시오.",
  mask_save: "저장", mask_restore: "설정 파일의 마스크로 되돌리기", mask_done: "다음 부품부터 영상의 {ignored} %를 무시합니다. 구역: {zones}, 임계값 {threshold}.", mask_no_zones: "없음",
  mask_unsaved: "아직 저장하지 않았습니다.", mask_other_size: "현재 마스크는 {width}×{height} 영상에 그린 것이고 이 영상은 {other}입니다. 같은 크기의 영상을 고르거나 빈 상태로 시작하십시오.",
  mask_too_long: "한 번에 보낼 수 있는 양을 넘었습니다. 지금까지 그린 것을 저장한 뒤 이어서 그리십시오.",
  mask_needs_kept: "부품을 정렬하는 모델입니다. 마스크가 기준 위치에 놓이도록 보관된 부품을 고르십시오.",
  event_mask_changed: "마스크 변경", event_text_mask_changed: "무시 {ignored_before} → {ignored_now}, 구역: {zones}, 임계값 {threshold}",
};
