// The words of how a taught part is found, in English and Korean.

export const en = {
  align: "Find the part first", align_explain: "For parts that lie at other places or angles in the image: each part is inspected as it lies in the reference.",
  align_none: "No: the part always lies at the same place", align_shift: "Shifted", align_shift_rotation: "Shifted, turned up to 45°", align_full_rotation: "Shifted, turned to any angle", align_before: "As in the version in force ({mode})",
  align_reference: "Reference", align_typical: "Most typical image, part outlined automatically",
  align_help: "Draw a box around the part: its outline, with little beside it. Without a box, what stands out from the background is taken.",
  align_box: "Box of {width} × {height} pixels", align_no_box: "No box: outlined automatically", align_clear: "Remove box",
  align_scale: "The part may be up to 10 % larger or smaller", align_sized: "{mode}, up to {share} % larger or smaller",
  align_x: "Left", align_y: "Top", align_width: "Width", align_height: "Height",
  align_found: "{mode}. Reference: image {n}, box {width}×{height} at {x}, {y}. A part needs a likeness of {likeness}.",
  align_found_before: "{mode}, as in the version before; box {width}×{height} at {x}, {y}. A part needs a likeness of {likeness}.",
  align_places: "Where the part was found in {n} {n|image|images}, the most unusual first (likeness, middle, angle)",
  refused_no_reference: "Image {n} cannot be the reference: it is excluded, or not a good one. Choose another.",
  refused_part_not_found: "The part was not found in {n} of {of} {of|image|images}: {images}. Exclude those that do not show it whole, or choose another reference, box or mode.",
  refused_reference_blank: "The box shows almost nothing that could be found again. Draw it so that the outline of the part lies inside.",
  refused_reference_region: "The box is too small, too narrow, or not inside the image. Draw a larger one.",
  refused_reference_ambiguous: "By this reference the part could lie in several ways: it is symmetric, repeats itself, or is there twice. Choose “Shifted” for round or symmetric parts, or draw the box around something that is there once.",
};

export const ko = {
  align: "부품 위치 찾기", align_explain: "영상 안에서 부품의 위치나 각도가 달라질 때 사용합니다. 각 부품을 기준 영상과 같은 자세로 맞춘 뒤 검사합니다.",
  align_none: "사용 안 함: 부품이 항상 같은 위치에 있음", align_shift: "이동만", align_shift_rotation: "이동 + 45°까지 회전", align_full_rotation: "이동 + 모든 각도 회전", align_before: "적용 중인 버전과 같게 ({mode})",
  align_reference: "기준 영상", align_typical: "가장 전형적인 영상, 부품 영역 자동 지정",
  align_help: "부품 둘레에 상자를 그리십시오. 윤곽이 들어가고 주변은 적을수록 좋습니다. 상자가 없으면 배경과 구분되는 부분을 사용합니다.",
  align_box: "상자 {width} × {height} 픽셀", align_no_box: "상자 없음: 자동 지정", align_clear: "상자 지우기",
  align_scale: "부품이 10 %까지 크거나 작을 수 있음", align_sized: "{mode}, 크기 ±{share} %",
  align_x: "왼쪽", align_y: "위쪽", align_width: "너비", align_height: "높이",
  align_found: "{mode}. 기준: 영상 {n}, 위치 {x}, {y}의 {width}×{height} 상자. 유사도 {likeness} 이상이어야 부품으로 인정합니다.",
  align_found_before: "{mode}, 이전 버전과 같음. 위치 {x}, {y}의 {width}×{height} 상자. 유사도 {likeness} 이상이어야 부품으로 인정합니다.",
  align_places: "영상 {n}장에서 찾은 부품 위치, 특이한 순서 (유사도, 중심, 각도)",
  refused_no_reference: "영상 {n}은 기준이 될 수 없습니다. 제외되었거나 양품 영상이 아닙니다. 다른 영상을 고르십시오.",
  refused_part_not_found: "영상 {of}장 중 {n}장에서 부품을 찾지 못했습니다: {images}. 부품 전체가 보이지 않는 영상을 제외하거나 기준 영상, 상자, 방식을 바꾸십시오.",
  refused_reference_blank: "상자 안에 다시 찾을 수 있는 것이 거의 없습니다. 부품의 윤곽이 들어가도록 상자를 그리십시오.",
  refused_reference_region: "상자가 너무 작거나 좁거나 영상 밖에 있습니다. 더 크게 그리십시오.",
  refused_reference_ambiguous: "이 기준으로는 부품의 자세가 여러 가지로 보입니다. 대칭이거나 반복되거나 둘 이상 보이기 때문입니다. 둥글거나 대칭인 부품은 “이동만”을 고르고, 아니면 하나뿐인 특징을 포함하도록 상자를 그리십시오.",
};
